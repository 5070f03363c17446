"""What is measured together."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict
from gradvote.lab.experiments.crew import Crew, groups
from gradvote.lab.experiments.records import Store


def cells(scale: Scale) -> list[Cell]:
    swept = [{"rule": rule, "together": True, "seed": s, "lr": lr} for rule in "ab" for s in (0, 1) for lr in (0.1, 1)]
    return [*swept, {"rule": "a", "seed": 0}, {"rule": "a", "seed": 1}]


def alone(cell: Cell, bench: Bench) -> Numbers:
    return {"with": 1}


def together(group: Sequence[Cell], bench: Bench) -> list[Numbers]:
    return [{"with": len(group)} for _ in group]


def judge(records: Sequence[Record]) -> list[Verdict]:
    return []


def draw(records: Sequence[Record]) -> Figure:
    return Figure()


CLAIM = Claim("A test", "Nobody, 2020", "By hand.", cells, alone, judge, draw, together)


def test_groups_differ_in_seed_and_rate_alone() -> None:
    assert [len(group) for group in groups(CLAIM, cells("quick"))] == [4, 4, 1, 1]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_crew_measures_jobs_and_keeps_records_of_each_cell(processes: int, tmp_path: Path) -> None:
    stores = [Store(tmp_path / name) for name in ("first", "second")]
    with Crew(processes) as crew:
        jobs = [crew.begin(CLAIM, "quick", store) for store in stores]
        for job in jobs:
            assert [r["with"] for r in crew.end(job)] == [4] * 8 + [1, 1]
        assert [r.cell for r in crew.end(crew.begin(CLAIM, "quick", stores[0]))] == cells("quick")
