"""Cells, records, verdicts and files, on a claim made for the test."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Outcome, Record, Scale, Verdict, verdict, where
from gradvote.lab.experiments.crew import measure
from gradvote.lab.experiments.document import write_document
from gradvote.lab.experiments.drawing import Series, plot
from gradvote.lab.experiments.findings import Finding
from gradvote.lab.experiments.page import write_page
from gradvote.lab.experiments.records import Store
from gradvote.lab.experiments.statistics import above, below, exact, mean
from gradvote.lab.experiments.tuning import assembled

MEASURED: list[Cell] = []


def cells(scale: Scale) -> list[Cell]:
    return [{"x": x, "scale": scale} for x in (1.0, 2.0, 3.0)]


def square(cell: Cell, bench: Bench) -> Numbers:
    bench.tell(1, 2, "half way")
    bench.folder.mkdir(parents=True, exist_ok=True)
    MEASURED.append(cell)
    if cell["x"] == 3.0 and len(MEASURED) == 3:
        raise KeyboardInterrupt
    return {"y": cell["x"] ** 2}


def cube(cell: Cell, bench: Bench) -> Numbers:
    return {"y": cell["x"] ** 3}


AWAITED = "GRADVOTE_TEST_AWAITED"
"""The environment variable with the record that is there before a cell fails in another process."""


def picky(cell: Cell, bench: Bench) -> Numbers:
    if cell["x"] == 2.0:
        patience = time.monotonic() + 60
        while AWAITED in os.environ and not Path(os.environ[AWAITED]).exists() and time.monotonic() < patience:
            time.sleep(0.01)
        raise ValueError("not two")
    return {"y": 0}


def judge(records: Sequence[Record]) -> list[Verdict]:
    return [verdict("y < 5 | always", [below("y", exact(r["y"]), 5) for r in records], "it is <b>9</b> once")]


def draw(records: Sequence[Record]) -> Figure:
    return plot("A parabola", "y", [Series("y", [r["x"] for r in records], [r["y"] for r in records])], x_label="x")


CLAIM = Claim("A test", "Nobody, 2020", "By hand.", cells, square, judge, draw)


def whole(scale: Scale, store: Store) -> bool:
    """Whether all cells have a record."""
    return assembled(CLAIM, scale, store.load)[2]


@pytest.fixture(autouse=True)
def forget() -> None:
    MEASURED.clear()


@pytest.fixture
def finding(tmp_path: Path) -> Finding:
    MEASURED.extend([{}] * 3)
    return Finding("test-claim", CLAIM, "quick", measure(CLAIM, "quick", Store(tmp_path / "records")))


def test_an_interrupted_measurement_goes_on_where_it_stopped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        measure(CLAIM, "quick", store)
    assert not whole("quick", store)
    said: list[str] = []
    records = measure(CLAIM, "quick", store, lambda board: said.append(str(board)))
    assert [r["y"] for r in records] == [1, 4, 9]
    assert [c["x"] for c in MEASURED] == [1, 2, 3, 3]
    assert any(line.startswith("2 of 3 cells, 83%") for line in said) and said[-1] == "3 of 3 cells, 100%"
    assert any(line.endswith(f"at work: {tmp_path.name} (x 3) 50%, step 1 of 2, half way") for line in said)
    assert whole("quick", store) and set(records[0].made) == {"machine", "gradvote", "torch", "python"}
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_two_processes_measure_the_same(tmp_path: Path) -> None:
    claim = replace(CLAIM, measure=cube)
    said: list[int] = []
    both = measure(claim, "quick", Store(tmp_path / "both"), lambda board: said.append(board.done), processes=2)
    assert [r["y"] for r in both] == [1, 8, 27]
    assert said == sorted(said) and said[0] == 0 and said[-1] == 3


def test_a_failure_in_a_process_is_raised_here_and_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, store = replace(CLAIM, measure=picky), Store(tmp_path)
    monkeypatch.setenv(AWAITED, str(store.path(cells("quick")[0])))
    with pytest.raises(ValueError, match="not two"):
        measure(claim, "quick", store, processes=2)
    assert store.load(cells("quick")[0]) is not None


def test_scales_do_not_share_records_and_forget_forgets(tmp_path: Path) -> None:
    MEASURED.extend([{}] * 3)
    store = Store(tmp_path)
    measure(CLAIM, "quick", store)
    assert whole("quick", store) and not whole("paper", store)
    store.forget()
    assert not whole("quick", store)


def test_a_spoiled_record_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path(cells("quick")[0]).write_text("[]")
    with pytest.raises(ValueError, match="--fresh"):
        measure(CLAIM, "quick", store)


def test_a_verdict_is_what_the_intervals_say() -> None:
    sure, open_one, wrong = (mean([v - 0.1, v, v + 0.1]) for v in (2.0, 0.9, -2.0))
    checks = [above("a", sure, 1), above("b", open_one, 1), above("c", wrong, 1)]
    found = [verdict("s", checks[:k], "r", at_best=Outcome.IN_KIND) for k in (1, 2, 3)]
    assert [v.outcome for v in found] == ["reproduced in kind", "undecided", "not reproduced"]
    assert "3 runs see" in found[1].reason and "would decide" in found[1].reason and "see" not in found[0].reason
    assert [v.decided[0] for v in found] == ["a", "b", "c"]
    assert verdict("s", above("a", mean([2.0]), 1), "r").outcome is Outcome.UNDECIDED, "one run decides nothing"


def test_where_selects_by_settings(finding: Finding) -> None:
    assert [r["y"] for r in where(finding.records, x=2.0)] == [4]


def test_the_page_holds_everything_and_nothing_foreign(finding: Finding, tmp_path: Path) -> None:
    page = write_page([finding], tmp_path / "deep" / "page.html").read_text()
    assert "1 not reproduced" in page and "&lt;b&gt;9&lt;/b&gt;" in page and "<svg" in page
    assert "http://" not in page and "https://" not in page


def test_the_document_names_its_figures_and_records(finding: Finding, tmp_path: Path) -> None:
    first = write_document([finding], tmp_path).read_text()
    assert (
        "y < 5 \\| always | not reproduced |" in first
        and "| 9 < 5 | not reproduced | quick |" in first
        and "(figures/test-claim.svg)" in first
    )
    svg = tmp_path / "figures" / "test-claim.svg"
    assert svg.stat().st_size < 200_000
    records = (tmp_path / "figures" / "test-claim.jsonl").read_text().splitlines()
    assert json.loads(records[0])["made"][0]["torch"] == torch.__version__
    assert [json.loads(line)["numbers"]["y"] for line in records[1:]] == [1, 4, 9]
    before = svg.read_text()
    write_document([finding], tmp_path)
    assert svg.read_text() == before
