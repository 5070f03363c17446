"""What needs no training answers without PyTorch; a short run needs no compiler. Modules are looked at, not seconds."""

import inspect
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradvote import algorithms, faults, kernels
from gradvote.kernels import quantiles
from gradvote.lab import data, models
from gradvote.lab.cli import run
from gradvote.lab.train.lean import lean
from gradvote.sources import function_in, functions_in, keys_in, only_class_in
from tests.lab.train.small import assert_same, trained

HEAVY = ("torch", "numpy", "numba", "scipy", "sklearn", "matplotlib", "jinja2")
PROBE = """
import contextlib, io, json, sys
from gradvote.lab.cli import run
found = []
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = run(line.split())
    found.append([line, status, [m for m in json.loads(sys.argv[2]) if m in sys.modules], out.getvalue()])
print(json.dumps(found))
"""
COMMANDS = ["train", "compare", "demo", "plan", "bench", "launch", "keys", "report", "reproduce", "list"]
LINES = {
    **dict.fromkeys(("--help", "--version", "list", "list algorithms"), 0),
    **dict.fromkeys(
        [
            f"{c} --help"
            for c in ["train", "compare", "demo", "plan", "bench", "launch", "keys", "report", "reproduce", "list"]
        ],
        0,
    ),
    **dict.fromkeys(
        (
            "trian",
            "train --algorithm signsdg",
            "train --algorithm dropsignsgd:keep=0.1",
            "train --fault invrt",
            "train --fault rescale:factr=2",
            "train --partition byclass",
            "train --data minst",
            "train --model mpl",
            "train --noise-std 1",
            "train --steps 0",
            "train --engine nosuch",
            "train --threads 0",
            "train --nonsense 1",
            "train --name ../x",
            "train --name taken",
            "train --resume nowhere",
            "compare sgd nosuch",
            "compare sgd --name taken",
            "plan --params 2.5 --workers 3 --bandwidth 1Gbit",
            "plan nosuch --params 2k --workers 3 --bandwidth 1Gbit",
            "launch nowhere.py --workers 2",
            "report nowhere",
            "demo --out taken",
            "list algoritms",
        ),
        2,
    ),
}


def probed(lines, watched, folder):
    """What each command printed in a new process, and which of the watched modules had been imported after it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", PROBE, json.dumps(lines), json.dumps(watched)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_help_lists_typos_and_refusals_do_without_pytorch(tmp_path):
    for name in ("taken", "sgd", "signsgd"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for place in ("runs/taken/report.html", "taken/report.html"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("mine")
    for line, status, heavy, said in probed(list(LINES), HEAVY, tmp_path):
        assert status == LINES[line] and heavy == [] and said.strip(), (line, heavy, said)


def test_a_short_run_imports_no_compiler(tmp_path):
    watched = (
        "torch._dynamo",
        "torch.distributed.fsdp",
        "numba",
        "sympy",
        "scipy",
        "sklearn",
        "torch.utils.tensorboard",
    )
    [[_, status, imported, said]] = probed(["train --steps 2"], watched, tmp_path)
    assert status == 0 and imported == [], said


@pytest.mark.parametrize("name", ["noisy-signum", "dropsignsgd"])
def test_a_short_run_gives_the_bits_that_the_kernels_give(name, tmp_path, monkeypatch):
    options = {"noise_std": 0.01} if name.startswith("noisy") else {}
    by_definition = trained(tmp_path / "short", algorithm=name, options=options)
    monkeypatch.setattr(kernels, "SHORT", 0)
    assert_same(by_definition, trained(tmp_path / "as-long", algorithm=name, options=options))


def test_a_long_run_uses_the_kernels_again_after_a_short_one(monkeypatch):
    with kernels.definitions(kernels.SHORT - 1), kernels.definitions(kernels.SHORT):
        monkeypatch.setattr(kernels, "_fast", lambda device, name: pytest.fail(f"{name} was loaded"))
        kernels.pack_bits(torch.ones(64, dtype=torch.bool))
    asked = []
    monkeypatch.setattr(kernels, "_fast", lambda device, name: asked.append((device, name)))
    with kernels.definitions(kernels.SHORT):
        kernels.pack_bits(torch.ones(64, dtype=torch.bool))
    assert asked == [("cpu", "pack_bits")]


@pytest.mark.parametrize("name", algorithms.names())
def test_what_the_sources_tell_is_true(name):
    assert algorithms.option_names(name) == list(algorithms.options(name))
    noisy = f"noisy-{name}"
    assert sorted(algorithms.option_names(noisy)) == sorted(algorithms.options(noisy))


def test_what_the_sources_tell_of_other_parts_is_true():
    for name in faults.names():
        assert faults.option_names(name) == list(inspect.signature(faults.fault_class(name)).parameters)
        assert faults.summary(name) == inspect.getdoc(faults.fault_class(name)).split("\n")[0]
    for name in data.partition_names():
        assert data.describe_partition(name)
    for name in models.model_names():
        factory = getattr(models.nets, name.replace("-", "_"))
        assert models.describe_model(name) == inspect.getdoc(factory).split("\n")[0]
    assert keys_in(Path(quantiles.__file__), "QUANTILES") == list(quantiles.QUANTILES)


def test_sources_that_do_not_tell(tmp_path):
    """Then the part itself is asked."""
    file = tmp_path / "odd.py"
    file.write_text(
        "import functools\nmade = functools.partial(print)\ndef open_ended(a, **more): ...\n"
        "class Base:\n    x: int = 1\nclass _Hidden: ...\n"
    )
    assert function_in(file, "made").options is None is function_in(file, "open_ended").options
    assert only_class_in(file).options == ("x",) and functions_in(file).keys() == {"open_ended"}
    file.with_name("heir.py").write_text("class Heir(Base):\n    y: int = 1\n")
    assert only_class_in(file.with_name("heir.py")).options is None and keys_in(file, "TABLE") == []


def test_an_algorithm_stays_a_function_whoever_imports_its_file():
    import gradvote.algorithms.signum
    from gradvote.algorithms import sgd

    assert callable(gradvote.algorithms.signum) and callable(sgd) and "lion" in dir(algorithms)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_lean_optimizer_computes_the_same_bits(kind):
    found = []
    for optimizer in (kind, lean(kind)):
        weights, called = torch.nn.Parameter(torch.linspace(-1, 1, 7)), []
        own = optimizer([weights], lr=0.1, weight_decay=0.3)
        own.register_step_post_hook(lambda *_, called=called: called.append(1))
        for step in range(5):
            own.zero_grad()
            (weights * step).sin().sum().backward()
            own.step()
        own.load_state_dict(own.state_dict())
        found.append((weights.tolist(), own.state_dict()["param_groups"], str(own.state_dict()["state"]), called))
    assert found[0] == found[1] and len(found[0][3]) == 5 and isinstance(own, kind)


def test_what_the_library_logs_is_a_line(capsys, monkeypatch):
    from gradvote.lab.cli import listing

    log = logging.getLogger("gradvote.kernels")
    monkeypatch.setitem(listing.KINDS, "data", lambda: log.info("Compiling [all]") or [])
    assert run(["list", "data"]) == 0
    assert capsys.readouterr().err.splitlines() == ["Compiling [all]"]
    log.info("nobody listens any more")
    assert capsys.readouterr().err == ""
