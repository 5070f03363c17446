"""`gradvote list` and the help texts."""

import pytest

from gradvote import aggregators, algorithms, codecs, faults, transforms
from gradvote.kernels.quantiles import QUANTILES
from gradvote.lab import data, models
from gradvote.lab.cli.listing import KINDS, options_told
from gradvote.lab.train.config import ENGINES, OPTIMIZERS, PLACEMENTS, WEIGHTS
from gradvote.lab.train.schedules import schedule_names
from tests.contract.parts import classes

EXPECTED = {
    "algorithms": [*algorithms.names(), "noisy-NAME"],
    "partitions": data.partition_names(),
    "faults": faults.names(),
    "data": data.names(),
    "models": models.model_names(),
    "noises": sorted(QUANTILES),
    "schedules": schedule_names(),
    "transforms": [kind.__name__ for kind in classes(transforms)],
    "codecs": [kind.__name__ for kind in classes(codecs)],
    "aggregators": [kind.__name__ for kind in classes(aggregators)],
    "optimizers": list(OPTIMIZERS),
    "weights": list(WEIGHTS),
    "engines": list(ENGINES),
    "placements": list(PLACEMENTS),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_kind_is_complete(kind, gradvote):
    found = gradvote("list", kind)
    assert found.status == 0 and found.err == ""
    assert KINDS[kind]() and [name for name, _ in KINDS[kind]()] == EXPECTED[kind]
    for name, text in KINDS[kind]():
        assert name in found.out and 10 < len(text) < 130 and "`" not in text and "\n" not in text


def test_everything(gradvote):
    found = gradvote("list")
    assert set(EXPECTED) == set(KINDS)
    for kind, names in EXPECTED.items():
        assert kind in found.text and all(name in found.text for name in names)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("faults", "options: factor"),
        ("partitions", "options: alpha"),
        ("models", "options: hidden"),
        ("schedules", "options: divisors"),
        ("noises", "options: std, position"),
        ("algorithms", "options: keep_up, keep_down, c"),
        ("algorithms", "options: noise_std, noise, position, and NAME's"),
    ],
)
def test_options_are_told(kind, line, gradvote):
    assert line in gradvote("list", kind).text


def test_what_has_no_options_says_nothing_of_them():
    assert options_told("partitions", "iid") == "" == options_told("engines", "ddp")


COMMANDS = ["train", "compare", "list", "report", "demo", "plan", "launch", "register", "keys", "privacy", "reproduce"]
BENCHES = [["bench"], ["bench", "kernels"], ["bench", "exchange"]]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), *BENCHES], ids=str)
def test_help(command, gradvote):
    found = gradvote(*command, "--help", small=False)
    assert found.status == 0 and "Usage: gradvote" in found.out
    assert "None" not in found.out and "()" not in found.out and "False" not in found.out
    assert "--empty-" not in found.out and "--no-" not in found.out


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_shows_the_true_defaults(command, gradvote):
    found = gradvote(command, "--help", small=False)
    for text in (
        "[default: digits]",
        "[default: by-class]",
        "[default: 1000]",
        "[default: simulation]",
        "[default: loop]",
    ):
        assert text in found.text.replace("│ │ ", "")


def test_version(gradvote):
    import gradvote as package

    assert gradvote("--version").out.strip() == package.__version__
