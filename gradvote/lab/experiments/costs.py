"""What a scale takes: runs, their steps, and hours."""

from dataclasses import dataclass

from gradvote.lab.experiments.claim import Scale
from gradvote.lab.experiments.claims import claim_named
from gradvote.lab.experiments.tuning import tuning_cells

CORES = 2


@dataclass(frozen=True)
class Cost:
    """Runs to choose by and to judge by, the steps of the longest of each, seconds per step, hours on two cores."""

    name: str
    choosing: int
    judging: int
    choosing_steps: int
    judging_steps: int
    pace: float
    hours: float


def cost_of(name: str, scale: Scale = "medium") -> Cost:
    """What the runs of a claim take by its own `pace`, which is that of medium scale."""
    claim = claim_named(name)
    rows = claim.cells(scale)
    runs = [[c["steps"] for c in cells if "steps" in c] for cells in (tuning_cells(claim, rows, scale), rows)]
    hours = sum(map(sum, runs)) * claim.pace / 3600 / CORES
    choosing, judging = runs
    return Cost(name, len(choosing), len(judging), max(choosing, default=0), max(judging), claim.pace, hours)
