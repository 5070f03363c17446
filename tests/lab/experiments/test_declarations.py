"""Every claim declares what makes its verdicts ones that can fail; what lacks it is refused here."""

import importlib
from dataclasses import replace

import pytest

from gradvote.lab.experiments.claim import Cell, Claim, Record, Scale
from gradvote.lab.experiments.claims import claim_named, names
from gradvote.lab.experiments.costs import cost_of
from gradvote.lab.experiments.tuning import TEST, VALIDATION, settled, tuning_cells

TRAINING = ("training", "sweep", "language", "photographs")
MEDIUM = [name for name in names() if "medium" in claim_named(name).scales]


def trains(name: str) -> bool:
    """Whether a claim's file uses what trains models."""
    module = importlib.import_module(f"gradvote.lab.experiments.claims.{name.replace('-', '_')}")
    homes = {getattr(value, "__module__", "") or "" for value in vars(module).values() if callable(value)}
    return any(home == f"gradvote.lab.experiments.{part}" for home in homes for part in TRAINING)


def lacking(claim: Claim, training: bool) -> list[str]:
    """What a claim does not declare."""
    found = [] if claim.nulls else ["a null method"]
    if not training:
        return found
    if claim.tuning is None:
        return found if claim.untuned else [*found, "how it chooses"]
    for scale in claim.scales:
        rows = claim.cells(scale)
        if any("choices" not in row for row in rows if "seed" in row):
            found.append(f"choices of every cell at scale {scale}")
        chosen = tuning_cells(claim, rows, scale)
        if {c["split"] for c in chosen} - {VALIDATION} or {c["seed"] for c in chosen} & {r.get("seed") for r in rows}:
            found.append(f"a split and seeds of its own to choose by at scale {scale}")
    return found if "medium" in claim.scales else [*found, "a medium scale"]


@pytest.mark.parametrize("name", names())
def test_every_claim_declares_it(name: str) -> None:
    assert lacking(claim_named(name), trains(name)) == []


def without_choices(scale: Scale) -> list[Cell]:
    return [{k: v for k, v in row.items() if k != "choices"} for row in claim_named("bucketing").cells(scale)]


def test_what_lacks_it_is_refused() -> None:
    whole = claim_named("bucketing")
    assert trains("bucketing") and not trains("theorem-4")
    assert lacking(replace(whole, nulls={}), True) == ["a null method"]
    assert lacking(replace(whole, tuning=None), True) == ["how it chooses"]
    assert lacking(replace(whole, scales=("quick",)), True) == ["a medium scale"]
    assert len(lacking(replace(whole, cells=without_choices), True)) == 3


def test_judged_cells_see_the_test_split() -> None:
    claim = claim_named("noise-map")
    row = claim.cells("quick")[0]
    chosen = [
        Record(c, {"test_accuracy": [0.5], "status": "finished"}, 0.0) for c in tuning_cells(claim, [row], "quick")
    ]
    assert settled(claim, row, "quick", chosen)["split"] == TEST


def test_medium_scale_takes_two_hours_a_claim_and_ten_in_all() -> None:
    costs = [cost_of(name) for name in MEDIUM]
    assert len(costs) > 10 and all(0 < c.hours <= 2 for c in costs) and sum(c.hours for c in costs) <= 10
