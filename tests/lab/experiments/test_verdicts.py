"""Verdicts from records made by hand: they hold where the claim does, and fall where it does not."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gradvote.lab.experiments.claim import Bench, Cell, Numbers, Outcome, Record, Verdict
from gradvote.lab.experiments.claims import claim_named, frontier
from gradvote.lab.experiments.claims.dropsign_tables import BITS
from gradvote.lab.experiments.training import standing

Rule = Callable[[Cell], float]
HELD = (Outcome.REPRODUCED, Outcome.IN_KIND)


def chosen(row: Cell) -> Cell:
    """A cell with the first of its choices."""
    kept = {key: value for key, value in row.items() if key not in ("choices", "chosen_as", "compared")}
    return kept | dict(row.get("choices", [{}])[0])


def made(name: str, accuracy: Rule, **more: object) -> list[Record]:
    """The claim's quick records, every run ending at the accuracy that the rule gives its cell."""

    def numbers(cell: Cell) -> Numbers:
        end = accuracy(cell)
        curve = [0.1, end / 2, end]
        curves = {"step": [0, 10, 20], "test_accuracy": curve, "train_accuracy": curve, "bits_up": [None, 1.0, 1.0]}
        curves |= {"bits_down": [None, 1.0, 1.0], "noise_std": [0.0, 0.01, 0.02], "grad_norm": [9.0, 5.0, 1.0 - end]}
        return {**curves, "validation": end, "status": "finished", **more}

    return [Record(cell, numbers(cell), 1.0) for cell in map(chosen, claim_named(name).cells("quick"))]


def outcomes(name: str, records: Sequence[Record]) -> list[Outcome]:
    claim = claim_named(name)
    verdicts: list[Verdict] = claim.judge(records)
    assert claim.draw(records).axes
    assert all(v.reason and v.decided and "nan" not in v.reason for v in verdicts)
    return [v.outcome for v in verdicts]


def judged(name: str, records: Sequence[Record]) -> list[bool]:
    return [outcome in HELD for outcome in outcomes(name, records)]


def figure_2(cell: Cell) -> float:
    return 0.6 if cell["setting"] == "none" else 0.9 + 0.001 * cell["seed"]


def figure_3(cell: Cell) -> float:
    return {"homogeneous": 0.75, "heterogeneous": 0.70}.get(cell["setting"], 0.75)


def heterogeneity(cell: Cell) -> float:
    lost = 0.4 if cell["alpha"] < 1 and cell["b"] == 0 and cell["rule"] == "vote" else 0.0
    return 0.95 - lost - float(cell["b"])


def noise_map(cell: Cell) -> float:
    if cell["spread"] == "equal":
        return 0.95 - float(cell["b"] * (1 + cell["liars"]))
    return 0.9 - 0.1 * int(cell["liars"]) - (0.2 if cell["b"] == 0 else 0.0)


def noise_rule(cell: Cell) -> float:
    return {"gap": 0.8, "fixed": 0.8, "none": 0.6}[cell["rule"]]


def dropsign_faults(cell: Cell) -> float:
    outlives = cell["method"] in ("signSGD vote", "DropSign 0.3+0.5") or "bounded" in cell["method"]
    return 0.9 if cell["kind"] == "none" or outlives else 0.1


def dropsign_constant(cell: Cell) -> float:
    return 0.5 if cell["c"] >= 0.1 else 0.9


def adversaries(cell: Cell) -> float:
    return 0.1 if cell["algorithm"] == "sgd" and cell["attack"] == "rescale" else 0.9 - 0.05 * cell["liars"]


def bucketing(cell: Cell) -> float:
    return {"mean": 0.95, "median": 0.3}.get(cell["method"], 0.8)


def dropsign_tables(cell: Cell) -> float:
    drop = "DropSign" in cell["method"]
    lost = {0: 0.0, 1: 0.01, 2: 0.02, 3: 0.06}[cell.get("inverted", 0)] * (1 if drop else 2)
    return (0.85 if "vote" in cell["method"] else 0.9) - lost


def tables(rule: Rule = dropsign_tables, bits: float = 1.0) -> list[Record]:
    return [
        Record(r.cell, {"bits": bits * BITS[r["method"]]}, 0) if "coordinates" in r.cell else r
        for r in made("dropsign-tables", rule)
    ]


HOLDING: dict[str, Rule] = {
    "figure-2": figure_2,
    "figure-3": figure_3,
    "heterogeneity": heterogeneity,
    "noise-map": noise_map,
    "noise-rule": noise_rule,
    "dropsign-faults": dropsign_faults,
    "dropsign-constant": dropsign_constant,
    "adversaries": adversaries,
    "bucketing": bucketing,
}


@pytest.mark.parametrize("name", HOLDING)
def test_what_holds_is_reproduced_and_standing_still_is_not(name: str) -> None:
    records = made(name, HOLDING[name])
    assert all(judged(name, records))
    assert set(outcomes(name, standing(records))) == {Outcome.NOT}


@pytest.mark.parametrize("name", sorted(HOLDING.keys() - {"noise-rule", "dropsign-faults", "dropsign-constant"}))
def test_no_difference_reproduces_nothing_that_is_one(name: str) -> None:
    kept = {"adversaries": [True, True, True, False]}.get(name)
    found = judged(name, made(name, lambda cell: 0.5))
    assert found == (kept or [False] * len(found))


def test_seeds_that_disagree_decide_nothing() -> None:
    lucky = made("figure-2", lambda cell: 0.5 if cell["setting"] == "none" or cell["seed"] else 1.0)
    assert set(outcomes("figure-2", lucky)) == {Outcome.UNDECIDED}
    reasons = [v.reason for v in claim_named("figure-2").judge(lucky)]
    assert all("with power 0.8" in reason and "would decide" in reason for reason in reasons)


def test_the_gap_of_figure_2_must_be_five_points() -> None:
    narrow = made("figure-2", lambda cell: 0.6 if cell["setting"] == "none" else 0.64)
    assert judged("figure-2", narrow) == [False, False, False, True] * 2


def test_the_rule_for_b_must_not_be_two_points_worse() -> None:
    def worse(cell: Cell) -> float:
        return noise_rule(cell) - (0.03 if cell["rule"] == "gap" and cell["task"] == "mnist, deep" else 0.0)

    assert judged("noise-rule", made("noise-rule", worse)) == [True, True, False, True]

    def badly_tuned(cell: Cell) -> float:
        return noise_rule(cell) + (0.05 if cell["rule"] == "gap" and cell["size"] == 4 else 0.0)

    assert judged("noise-rule", made("noise-rule", badly_tuned))[0] is False


def test_each_fault_and_method_has_a_verdict_of_its_own() -> None:
    def ruined(cell: Cell) -> float:
        drop = cell["method"] == "DropSign 0.3+0.5"
        return 0.2 if drop and cell["kind"] == "random" and cell["links"] == 2 else dropsign_faults(cell)

    found = claim_named("dropsign-faults").judge(made("dropsign-faults", ruined))
    assert [v.statement for v in found if v.outcome is Outcome.NOT] == [
        "DropSign 0.3+0.5 keeps 80% of its accuracy with 1 and with 2 of 7 links random"
    ]
    assert judged("dropsign-faults", made("dropsign-faults", lambda cell: 0.9)) == [True] * 12 + [False] * 6


def test_a_large_c_that_works_contradicts_the_paper() -> None:
    assert judged("dropsign-constant", made("dropsign-constant", lambda cell: 0.9)) == [True, False] * 2


def test_a_diverged_run_counts_as_none() -> None:
    records = made("dropsign-constant", lambda cell: 0.9)
    fallen = [Record(r.cell, {**r.numbers, "status": "diverged"}, 0) if r["c"] == 1 else r for r in records]
    assert all(judged("dropsign-constant", fallen))


def test_bits_until_an_accuracy() -> None:
    curve = {"step": [0, 10, 20, 30], "bits_up": [None, 1.0, 1.0, 1.0], "bits_down": [None, 2.0, 2.0, 2.0]}
    records = [Record({}, {**curve, "test_accuracy": a}, 0) for a in ([0.1, 0.6, 0.5, 0.9], [0.1, 0.4, 0.7, 0.8])]
    assert frontier.bits_to_reach(records, 0.5) == [30, 60]
    assert frontier.bits_to_reach(records, 0.85) is None


@pytest.mark.parametrize(("sgd", "power", "expected"), [(32.0, 0.5, [True, True]), (2.0, 5.0, [False, False])])
def test_the_frontier_counts_bits(sgd: float, power: float, expected: list[bool]) -> None:
    bits = {"sgd": sgd, "powersgd": power, "mediansgd": 32.0, "noisy-mediansgd": 32.0}
    records = made("frontier", lambda cell: 0.9)
    each = [(r, [None] + [bits.get(r["method"], 1.0)] * 2) for r in records]
    priced = [Record(r.cell, {**r.numbers, "bits_up": b, "bits_down": b}, 0) for r, b in each]
    assert judged("frontier", priced) == expected
    assert set(outcomes("frontier", standing(priced))) == {Outcome.NOT}


def test_the_transformer_s_losses() -> None:
    losses = {"AdamW, mean": 1.5, "SGD, mean": 1.9, "Signum": 1.55}
    bytes_of = {"AdamW, mean": 3.2e7, "SGD, mean": 3.2e7}

    def records(**changed: float) -> list[Record]:
        ends = losses | changed
        return [
            Record(
                cell,
                {
                    "loss": [4.0, ends.get(cell["method"], 1.8)],
                    "bytes": [0, bytes_of.get(cell["method"], 1e6)],
                    "step": [0, 60],
                    "diverged": False,
                    "validation": -ends.get(cell["method"], 1.8),
                },
                0,
            )
            for cell in map(chosen, claim_named("transformer").cells("quick"))
        ]

    assert judged("transformer", records()) == [True] * 5
    assert judged("transformer", records(Signum=1.7)) == [False, True, True, True, True]
    assert judged("transformer", records(DropSign=2.5)) == [True, True, True, False, True]
    assert set(outcomes("transformer", standing(records()))) == {Outcome.NOT}


def test_the_tables_of_dropsign() -> None:
    claim = claim_named("dropsign-tables")
    assert judged("dropsign-tables", tables()) == [True] * 7
    assert judged("dropsign-tables", tables(bits=1.05))[2] is False
    behind = tables(lambda cell: dropsign_tables(cell) - (0.06 if "DropSign" in cell["method"] else 0.0))
    assert judged("dropsign-tables", behind) == [False, False, True, True, True, False, False]
    fragile = tables(lambda cell: dropsign_tables(cell) * (0.4 if cell.get("inverted") == 3 else 1.0))
    assert judged("dropsign-tables", fragile)[3:5] == [False, False]
    failed = [[v.outcome is Outcome.NOT for v in claim.judge(null(tables()))] for null in claim.nulls.values()]
    assert all(any(each) for each in zip(*failed, strict=True)), "each statement fails for one null at least"


def test_measured_bits_are_the_table_s() -> None:
    cells = [cell for cell in claim_named("dropsign-tables").cells("quick") if "coordinates" in cell]
    assert len(cells) == len(BITS)
    for cell in cells:
        small = {**cell, "coordinates": 100_000}
        assert claim_named("dropsign-tables").measure(small, Bench(Path()))["bits"] == pytest.approx(
            BITS[cell["method"]], rel=0.04
        )
