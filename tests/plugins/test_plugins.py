"""Parts of an installed package, one file each and nothing else: listed, trained, documented, held to the laws."""

import json
import re
from pathlib import Path

import pytest

from tests.plugins.conftest import describe, python

TRAIN = {
    "--algorithm": "ef21:workers=5",
    "--partition": "shards:per_worker=3",
    "--fault": "inner-product:epsilon=0.3",
    "--schedule": "warmup:share=0.2",
    "--model": "linear:bias=False",
    "--data": "blobs:classes=4,spread=0.1",
}
OURS = "ef21 or estimate or accumulated or total or innerproduct or shards or warmup or linear or blobs or samples"


def test_they_are_listed_and_documented(site: Path) -> None:
    found = python(site, "-m", "gradvote", "list")
    for name in ("ef21", "shards", "inner-product", "warmup", "linear", "blobs", "Estimate", "Total"):
        assert re.search(rf"^ +{name} .*\(ef21-plugin\)", found.stdout, re.MULTILINE), (name, found.stdout)
    table = python(site, "-m", "gradvote", "list", "algorithms", "--table").stdout
    assert (
        "| `ef21` | scaled sign of what an estimate lacks | sum of means | estimate | 1 + 32 | every worker |" in table
    )


def test_they_are_trained_and_resumed_with_their_options(site: Path, tmp_path: Path) -> None:
    words = [word for pair in TRAIN.items() for word in pair]
    short = python(site, "-m", "gradvote", "train", *words, "--steps", "30", cwd=tmp_path)
    assert short.returncode == 0, short.stderr
    about = json.loads((tmp_path / "runs/ef21/run.json").read_text())
    assert about["algorithm"].startswith("Algorithm(up=Estimate(codec=Sign(scale='l1'")
    assert about["config"]["partition_options"] == {"per_worker": 3}
    records = [json.loads(line) for line in (tmp_path / "runs/ef21/records.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < 0.7 * records[0]["loss"]
    again = python(site, "-m", "gradvote", "train", "--resume", "runs/ef21", cwd=tmp_path)
    assert again.returncode == 0 and "finished" in again.stdout, again.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--partition", "shards:per_wroker=3"], "named 'per_wroker'. Did you mean 'per_worker'?"),
        (["--partition", "shads"], "Did you mean 'shards'?"),
        (["--partition", "shards:per_worker=0"], "each worker needs at least 1 shard."),
        (["--fault", "inner-product:eps=2"], "named 'eps'. The valid ones are: epsilon."),
        (["--data", "blobs:classes=many"], "The option classes of the data set blobs must be a whole number"),
        (["--algorithm", "ef21:worker=5"], "Did you mean 'workers'?"),
        (["--algorithm", "ef21", "--engine", "elastic"], "all workers of the start must stay to the end"),
        (["--fault", "inner-product", "--engine", "elastic"], "needs the gradients of all workers"),
    ],
)
def test_their_options_are_checked(words: list[str], sentence: str, site: Path, tmp_path: Path) -> None:
    found = python(site, "-m", "gradvote", "train", *words, cwd=tmp_path)
    assert found.returncode == 2 and sentence in " ".join(found.stderr.split()), found.stderr
    assert not (tmp_path / "runs").exists()


def test_they_are_held_to_the_laws(site: Path) -> None:
    """The whole contract suite, which has no list of them, on what is new."""
    found = python(site, "-m", "pytest", "-q", "-rN", "tests/contract", "-k", OURS, "-p", "no:cacheprovider")
    assert found.returncode == 0, found.stdout[-3000:]
    [count] = re.findall(r"(\d+) passed", found.stdout)
    assert int(count) > 100


def test_a_file_without_samples_is_told_what_to_add(site: Path, tmp_path: Path) -> None:
    (tmp_path / "bare" / "aggregators").mkdir(parents=True)
    rule = (site / "ef21_plugin/aggregators/total.py").read_text().replace("SAMPLES = (Total(),)", "")
    (tmp_path / "bare/aggregators/whole.py").write_text(rule)
    (tmp_path / "bare/__init__.py").touch()
    describe(tmp_path, "bare", {"all": "bare"})
    found = python(tmp_path, "-m", "pytest", "-q", "tests/contract/test_discovery.py", "-p", "no:cacheprovider")
    assert "bare.aggregators.whole has no samples of Total: end it with SAMPLES = (Total(),)." in found.stdout


def test_recipes_read_registered_parts_only(site: Path) -> None:
    read = (
        "import sys; from gradvote import recipes\n"
        "print(recipes.first_of(\"(Algorithm(up=Estimate(codec=Sign(scale='l1', zero='random', still=False)), "
        "aggregate=Total(), down=Accumulated(codec=Dense(dtype='float32'), share=0.2), block_size=None), 1)\"))\n"
        "print([m for m in sys.modules if m.startswith('ef21_plugin.')])\n"
        "try: recipes.first_of('system(1)')\nexcept ValueError as error: print(error)\n"
    )
    found = python(site, "-c", read)
    assert found.stdout.startswith("Algorithm(up=Estimate("), found.stderr
    assert "faults" not in found.stdout and "no imported module defines its part system" in found.stdout


BROKEN = {
    "broken/faults/typo.py": "def (",
    "broken/faults/crash.py": "raise RuntimeError('no such luck')",
    "broken/faults/empty.py": '"""Nothing."""',
    "broken/partitions/iid.py": '"""Ours is older."""',
    "broken/partitions/two.py": '"""Two."""\nclass A: ...\nclass B: ...\n',
    "broken/algorithms/mute.py": '"""Mute."""\nLR = 1\n',
    "broken/__init__.py": "raise SystemExit('at the import')",
}


@pytest.fixture(scope="module")
def broken_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed: a package with one mistake in each file, and one that is not there."""
    folder = tmp_path_factory.mktemp("broken")
    for name, text in BROKEN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    describe(folder, "broken", {"all": "broken"})
    describe(folder, "gone", {"some": "nowhere.faults"})
    return folder


def test_what_is_broken_is_named_and_stops_nothing_else(broken_site: Path, tmp_path: Path) -> None:
    listed = python(broken_site, "-m", "gradvote", "list")
    assert listed.returncode == 0 and "signsgd" in listed.stdout
    said = " ".join(listed.stdout.split())
    assert "The plugin 'some' of the package gone names nowhere.faults, which is no folder" in said
    assert "The part faults/typo of the package broken cannot be used: its source cannot be read (SyntaxError" in said
    assert "The part partitions/iid of the package broken is left out, as gradvote has one of that name" in said
    done = python(broken_site, "-m", "gradvote", "train", "--steps", "2", "--partition", "iid", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--fault", "typo"], "The part faults/typo of the package broken cannot be used: its source cannot be read"),
        (["--fault", "crash"], "The fault 'crash' of the package broken cannot be used: it cannot be imported"),
        (["--fault", "empty"], "The fault 'empty' of the package broken cannot be used"),
        (["--partition", "two"], "The partition 'two' of the package broken cannot be used"),
        (["--algorithm", "mute"], "The algorithm 'mute' of the package broken cannot be used"),
    ],
)
def test_using_what_is_broken_is_one_sentence(
    words: list[str], sentence: str, broken_site: Path, tmp_path: Path
) -> None:
    found = python(broken_site, "-m", "gradvote", "train", *words, cwd=tmp_path)
    said = " ".join(found.stderr.split())
    assert found.returncode == 2 and sentence in said and "uninstall it" in said and "Traceback" not in said, said
