"""Claims about training on ten samples per class, a few steps: they measure, judge and draw; nothing is proved."""

from pathlib import Path

import pytest

from gradvote.lab.experiments.claim import Bench, Outcome, Record
from gradvote.lab.experiments.claims import claim_named
from tests.lab.experiments.test_verdicts import chosen

TINY = {"steps": 4, "eval_every": 2, "samples": 10}
NAMES = [
    *("adversaries", "bucketing", "dropsign-constant", "dropsign-faults", "dropsign-tables"),
    *("figure-2", "frontier", "heterogeneity", "noise-map"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_from_cells_to_verdicts(name: str, tmp_path: Path) -> None:
    claim = claim_named(name)
    cells = [{**chosen(cell), **TINY} for cell in claim.cells("quick") if cell.get("seed", 0) < 2]
    records = [
        Record(c, {**claim.measure(c, Bench(tmp_path / str(i))), "validation": 0.5}, 0.0) for i, c in enumerate(cells)
    ]
    assert all(v.outcome in Outcome and "nan" not in v.reason for v in claim.judge(records))
    assert claim.draw(records).axes
