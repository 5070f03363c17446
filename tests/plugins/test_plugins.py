"""Parts of an installed package, one file each and nothing else: listed, trained, documented, held to the laws."""

import json
import re
from pathlib import Path

import pytest

from gradvote import aggregators, discovery
from tests.contract.test_discovery import test_every_part_has_samples
from tests.plugins.conftest import HERE, commands, describe, python

TRAIN = {
    "--algorithm": "ef21:workers=5",
    "--partition": "shards:per_worker=3",
    "--fault": "inner-product:epsilon=0.3",
    "--schedule": "warmup:share=0.2",
    "--model": "linear:bias=False",
    "--data": "blobs:classes=4,spread=0.1",
}
OURS = "ef21 or estimate or accumulated or total or innerproduct or shards or warmup or linear or blobs or samples"


MISTAKES = {
    "train --partition shards:per_wroker=3": "named 'per_wroker'. Did you mean 'per_worker'?",
    "train --partition shads": "Did you mean 'shards'?",
    "train --partition shards:per_worker=0": "each worker needs at least 1 shard.",
    "train --fault inner-product:eps=2": "named 'eps'. Did you mean 'epsilon'?",
    "train --data blobs:classes=many": "The option classes of the data set blobs must be a whole number",
    "train --algorithm ef21:worker=5": "Did you mean 'workers'?",
    "train --algorithm ef21 --engine elastic": "all workers of the start must stay to the end",
    "train --fault inner-product --engine elastic": "needs the gradients of all workers",
}


def test_names_and_typos_come_without_pytorch(site: Path, tmp_path: Path) -> None:
    lines = ["list", "list algorithms --table", "train --partition shads", "train --fault inner-product:eps=2"]
    listed, table, *typos = commands(site, tmp_path, lines)
    for name in ("ef21", "shards", "inner-product", "warmup", "linear", "blobs", "Estimate", "Total"):
        assert re.search(rf"^ +{name} .*\(ef21-plugin\)", listed.said, re.MULTILINE), (name, listed.said)
    row = "| `ef21` | scaled sign of what an estimate lacks | sum of means | estimate | 1 + 32 | every worker |"
    assert row in table.said and listed.status == table.status == 0
    assert [typo.status for typo in typos] == [2, 2] and not any(c.torch for c in (listed, table, *typos))


def test_they_are_trained_and_resumed_with_their_options(site: Path, tmp_path: Path) -> None:
    """And their mistakes are found, before anything is written."""
    words = " ".join(word for pair in TRAIN.items() for word in pair)
    *mistakes, first, again = commands(
        site, tmp_path, [*MISTAKES, f"train {words} --steps 30", "train --resume runs/ef21"]
    )
    for found, sentence in zip(mistakes, MISTAKES.values(), strict=True):
        assert found.status == 2 and sentence in " ".join(found.said.split()), found.said
    assert first.status == again.status == 0, first.said + again.said
    about = json.loads((tmp_path / "runs/ef21/run.json").read_text())
    assert about["algorithm"].startswith("Algorithm(up=Estimate(codec=Sign(scale='l1'")
    assert about["config"]["partition_options"] == {"per_worker": 3} and about["status"] == "finished"
    records = [json.loads(line) for line in (tmp_path / "runs/ef21/records.jsonl").read_text().splitlines()]
    assert records[-1]["loss"] < 0.7 * records[0]["loss"]


def test_they_are_held_to_the_laws(site: Path) -> None:
    """The whole contract suite, which has no list of them, on what is new."""
    found = python(site, "-m", "pytest", "-o", "addopts=", "tests/contract", "-k", OURS, "-p", "no:cacheprovider")
    assert found.returncode == 0, found.stdout[-3000:]
    [count] = re.findall(r"(\d+) passed", found.stdout)
    assert int(count) > 100


def test_a_file_without_samples_is_told_what_to_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare/aggregators").mkdir(parents=True)
    rule = (HERE / "ef21_plugin/aggregators/total.py").read_text().replace("Total", "Bare")
    (tmp_path / "bare/aggregators/whole.py").write_text(rule.replace("SAMPLES = (Bare(),)", ""))
    describe(tmp_path, "bare", {"all": "bare.aggregators"})
    monkeypatch.syspath_prepend(tmp_path)
    discovery.forget()
    try:
        with pytest.raises(
            AssertionError, match=r"whole has no samples of Bare: end it with SAMPLES = \(Bare\(\),\)\."
        ):
            test_every_part_has_samples(aggregators)
    finally:
        monkeypatch.undo()
        discovery.forget()


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
    "broken/schedules/slow.py": '"""Slow."""',
    "broken/data/heap.py": '"""Heap."""',
    "broken/algorithms/mute.py": '"""Mute."""\nLR = 1\n',
    "sour/__init__.py": "raise SystemExit('at the import')",
    "sour/faults/bitter.py": '"""Bitter."""',
}


@pytest.fixture(scope="module")
def broken_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed: a package with one mistake in each file, one that ends at the import, and one that is not there."""
    folder = tmp_path_factory.mktemp("broken")
    for name, text in BROKEN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    describe(folder, "broken", {"all": "broken"})
    describe(folder, "sour", {"all": "sour.faults"})
    describe(folder, "gone", {"some": "nowhere.faults"})
    return folder


USED = {
    "train --fault typo": "The part faults/typo of the package broken cannot be used: its source cannot be read",
    "train --fault crash": "'crash' of the package broken cannot be used: it cannot be imported (RuntimeError: no such",
    "train --fault empty": "'empty' of the package broken cannot be used: it defines no class under",
    "train --fault bitter": "'bitter' of the package sour cannot be used: it cannot be imported (SystemExit: at the",
    "train --partition two": "'two' of the package broken cannot be used: it must define exactly one class",
    "train --schedule slow": "'slow' of the package broken cannot be used: it has no function slow(lr, steps)",
    "train --data heap": "'heap' of the package broken cannot be used: it has no function load(data_dir)",
    "train --algorithm mute": "'mute' of the package broken cannot be used: broken.algorithms.mute has no",
}


def test_what_is_broken_is_named_and_stops_nothing_else(broken_site: Path, tmp_path: Path) -> None:
    lines = ["list", "list algorithms --table", *USED, "train --steps 2 --partition iid"]
    listed, table, *used, fine = commands(broken_site, tmp_path, lines)
    assert "| `mute` | ? |" in table.said and "| `signsgd` | sign |" in table.said
    assert listed.status == 0 and "signsgd" in listed.said and fine.status == 0, fine.said
    said = " ".join(listed.said.split())
    assert "The plugin 'some' of the package gone names nowhere.faults, which is no folder" in said
    assert "The part faults/typo of the package broken cannot be used: its source cannot be read (SyntaxError" in said
    assert "The part partitions/iid of the package broken is left out, as gradvote has one of that name" in said
    for found, sentence in zip(used, USED.values(), strict=True):
        text = " ".join(found.said.split())
        assert found.status == 2 and sentence in text and "uninstall it" in text and "Traceback" not in text, text
