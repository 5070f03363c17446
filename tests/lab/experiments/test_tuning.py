"""Choices are made on other samples and seeds than the judging, whatever the judging says."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Tuning, Verdict
from gradvote.lab.experiments.crew import Crew, measure
from gradvote.lab.experiments.records import Store, export, imported
from gradvote.lab.experiments.tuning import assembled, tuning_cells

BETTER = {"validation": 0.1, "test": 0.3}


def cells(scale: Scale) -> list[Cell]:
    both = [{"lr": 0.1}, {"lr": 0.3}]
    told = {"faulty": True, "choices": both, "chosen_as": {"faulty": False}}
    return [{"faulty": False, "seed": 0, "choices": both}, {**told, "seed": 0}, {**told, "seed": 1}, {"seed": 7}]


def one(cell: Cell, bench: Bench) -> Numbers:
    if "split" not in cell:
        return {"y": 0.0}
    assert cell["split"] == "test" or not cell["faulty"]
    return {"y": float(cell["lr"] == BETTER[cell["split"]])}


def score(record: Record) -> float:
    return float(record["y"])


def judge(records: Sequence[Record]) -> list[Verdict]:
    return []


def draw(records: Sequence[Record]) -> Figure:
    return Figure()


CLAIM = Claim("A test", "Nobody, 2020", "By hand.", cells, one, judge, draw, tuning=Tuning(score, seeds=2))


@pytest.mark.parametrize("processes", [1, 2])
def test_the_validation_split_chooses_and_the_test_split_is_seen_once(processes: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    records = measure(CLAIM, "quick", store, processes=processes)
    assert [r.cell.get("lr") for r in records] == [0.1, 0.1, 0.1, None], "the test split likes 0.3"
    assert [r.cell.get("seed") for r in records] == [0, 0, 1, 7]
    assert all(r["validation"] == 1.0 and r["choice"] == {"lr": 0.1} for r in records[:3])
    assert "choices" not in records[0].cell and "chosen_as" not in records[1].cell
    assert len(list(tmp_path.glob("*.json"))) == 4 + 4, "two choices by two seeds; what is judged is not chosen by"
    with Crew(1) as crew:
        job = crew.begin(CLAIM, "quick", store)
        assert not job.missing and [r.cell for r in crew.end(job)] == [r.cell for r in records]


def test_seeds_that_choose_judge_nothing() -> None:
    seeds = {c["seed"] for c in tuning_cells(CLAIM, cells("quick"), "quick")}
    assert seeds == {1000, 1001} and not seeds & {c["seed"] for c in cells("quick")}


def test_shorter_runs_may_choose() -> None:
    shorter = replace(CLAIM, tuning=Tuning(score, instead={"medium": {"steps": 3}}))
    assert {c.get("steps") for c in tuning_cells(shorter, cells("medium"), "medium")} == {3}
    assert {c.get("steps") for c in tuning_cells(shorter, cells("quick"), "quick")} == {None}


def test_exported_records_are_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    records = measure(CLAIM, "quick", store)
    known = imported(
        export([r for c in tuning_cells(CLAIM, cells("quick"), "quick") if (r := store.load(c))] + records)
    )

    def find(cell: Cell) -> Record | None:
        return next((r for r in known.values() if r.cell == cell), None)

    again, chosen, whole = assembled(CLAIM, "quick", find)
    assert whole and len(chosen) == 4 and [r.cell for r in again] == [r.cell for r in records]
    assert assembled(CLAIM, "quick", lambda cell: None if cell.get("seed") == 1000 else find(cell))[2] is False


def test_each_exported_record_keeps_the_machine_it_was_measured_on() -> None:
    """A claim may be measured on one machine in part, and on another to the end."""
    records = [Record({"seed": i}, {"y": 0.5}, 1.0, {"machine": m}) for i, m in enumerate(("a", "b", "a"))]
    assert [r.made["machine"] for r in imported(export(records)).values()] == ["a", "b", "a"]
    assert '"made": 0' not in export(records[:1])
