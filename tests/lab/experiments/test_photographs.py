"""The ImageNet recipe on a folder of eleven tiny images."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradvote.lab.experiments.claim import Bench, Cell, Outcome, Record
from gradvote.lab.experiments.claims import claim_named, dropsign_imagenet
from gradvote.lab.experiments.photographs import Looking, train

TINY = {"data": "imagenet", "workers": 2, "batch_size": 2, "size": 8, "epochs": 2, "most_steps": 3}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 1)):
        for name in ("cat", "dog"):
            place = tmp_path / "imagenet" / part / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).save(place / f"{i}.png")
    monkeypatch.setenv("GRADVOTE_DATA", str(tmp_path))


def test_every_method_of_the_table_runs(tmp_path: Path) -> None:
    cells: list[Cell] = [{**cell, **TINY} for cell in claim_named("dropsign-imagenet").cells("quick")]
    records = [Record(c, train(c, Bench(tmp_path / str(i))), 0) for i, c in enumerate(cells)]
    for r in records:
        assert r["step"] == [0, 2, 3] and not r["diverged"] and r["tests"] == 2
        assert r["top5"] == [1, 1, 1] and all(v in (0, 0.5, 1) for v in r["top1"])
    assert [v.outcome in Outcome for v in dropsign_imagenet.judge(records)] == [True, True]
    assert dropsign_imagenet.draw(records).axes


def test_paper_scale_is_the_paper_s(tmp_path: Path) -> None:
    cells = claim_named("dropsign-imagenet").cells("paper")
    assert {(c["model"], c["size"], c["workers"], c["epochs"]) for c in cells} == {("resnet50", 224, 7, 90)}
    theirs = [c for c in cells if c["recipe"] == "reference 36"]
    assert len(theirs) == 7 and all(c["batch_size"] * 7 in range(250, 257) for c in theirs)
    assert all(c["options"]["track_lr"] for c in theirs if c["algorithm"] == "dropsignsgd")


def test_reference_36_warms_up_and_decays_every_30_epochs() -> None:
    cell = {**claim_named("dropsign-imagenet").cells("paper")[0], **TINY, "epochs": 90, "recipe": "reference 36"}
    del cell["most_steps"]
    with ThreadPoolExecutor(1) as pool:
        looking = Looking(cell, pool)
    epoch = looking.cell["steps"] // 90
    rates = [looking.schedule(epoch * e + epoch - 1, 0) for e in (0, 4, 5, 29, 30, 59, 60, 89)]
    assert rates == pytest.approx([0.02, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_folders_of_other_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "imagenet" / "val" / "dog").rename(tmp_path / "imagenet" / "val" / "fox")
    cell = {**claim_named("dropsign-imagenet").cells("quick")[0], **TINY}
    with pytest.raises(ValueError, match="same classes"):
        train(cell, Bench(tmp_path / "out"))


@pytest.mark.parametrize(
    ("drop", "outcome"), [(0.7664, Outcome.REPRODUCED), (0.75, Outcome.UNDECIDED), (0.74, Outcome.NOT)]
)
def test_the_verdict(drop: float, outcome: Outcome) -> None:
    reached = dropsign_imagenet.PUBLISHED | {"DropSign 0.3+0.5": drop}
    cells = claim_named("dropsign-imagenet").cells("paper")
    records = [Record(c, {"top1": [0.0, reached[c["method"]]], "step": [0, 1], "tests": 50_000}, 0) for c in cells]
    assert dropsign_imagenet.judge(records)[0].outcome is outcome
