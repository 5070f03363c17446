"""Every claim, found by discovery: its cells are plain, its judgement and picture come from records alone."""

import json
import math

import pytest

from gradvote.lab.experiments.claim import Bench, Claim, Outcome
from gradvote.lab.experiments.claims import claim_named, names
from gradvote.lab.experiments.records import describe


@pytest.mark.parametrize("name", names())
def test_cells_are_different_and_survive_json(name: str) -> None:
    for scale in claim_named(name).scales:
        cells = claim_named(name).cells(scale)
        texts = [json.dumps(cell, sort_keys=True) for cell in cells]
        assert len(set(texts)) == len(texts) > 0
        assert all(describe(cell) for cell in cells)


@pytest.mark.parametrize("name", names())
def test_it_says_where_it_comes_from(name: str) -> None:
    claim = claim_named(name)
    assert isinstance(claim, Claim)
    assert claim.title and claim.source and claim.method.endswith(".")


def test_an_unknown_claim_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'figure-1'"):
        claim_named("figure1")


def test_proposition_1_end_to_end(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from gradvote.lab.experiments.claims import proposition_1

    small = [{"workers": m, "zero": z, "inputs": "all"} for m in (1, 2, 3, 4) for z in proposition_1.ZEROS]
    records = [proposition_1.Record(c, proposition_1.measure(c, Bench(Path())), 0.0) for c in small]
    assert [v.outcome for v in proposition_1.judge(records)] == [Outcome.REPRODUCED] * 2
    assert proposition_1.draw(records).axes
    broken = [proposition_1.Record(r.cell, {**r.numbers, "wrong": 1}, 0.0) for r in records]
    assert proposition_1.judge(broken)[0].outcome is Outcome.NOT


def test_figure_1_follows_its_formulas() -> None:
    from pathlib import Path

    from gradvote.lab.experiments.claims import figure_1

    for name in ("signsgd", "mediansgd", "sgd"):
        numbers = figure_1.measure({"algorithm": name, "steps": 60}, Bench(Path()))
        assert numbers["error"] < 1e-5
        assert len(numbers["x"]) == 61 and math.isfinite(numbers["last"][1])
