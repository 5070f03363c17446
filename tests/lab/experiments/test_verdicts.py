"""Verdicts from records made by hand: they hold where the claim does, and fall where it does not."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gradvote.lab.experiments.claim import Bench, Cell, Numbers, Outcome, Record, Verdict
from gradvote.lab.experiments.claims import claim_named, frontier
from gradvote.lab.experiments.claims.dropsign_tables import BITS

Rule = Callable[[Cell], float]


def made(name: str, accuracy: Rule, **more: object) -> list[Record]:
    """The claim's quick records, every run ending at the accuracy that the rule gives its cell."""

    def numbers(cell: Cell) -> Numbers:
        end = accuracy(cell)
        curves = {"step": [0, 10, 20], "test_accuracy": [0.1, end / 2, end], "bits_up": [None, 1.0, 1.0]}
        return {**curves, "bits_down": [None, 1.0, 1.0], "noise_std": [0.0, 0.01, 0.02], "status": "finished", **more}

    return [Record(cell, numbers(cell), 1.0) for cell in claim_named(name).cells("quick")]


def judged(name: str, records: Sequence[Record]) -> list[bool]:
    claim = claim_named(name)
    verdicts: list[Verdict] = claim.judge(records)
    assert claim.draw(records).axes
    assert all(v.reason and "nan" not in v.reason for v in verdicts)
    return [v.outcome is not Outcome.NOT for v in verdicts]


def figure_3(cell: Cell) -> float:
    return {"homogeneous": 0.75, "heterogeneous": 0.70}.get(cell["setting"], 0.75)


def heterogeneity(cell: Cell) -> float:
    lost = 0.4 if cell["alpha"] < 1 and cell["b"] == 0 and cell["rule"] == "vote" else 0.0
    return 0.95 - lost - cell["b"]


def noise_map(cell: Cell) -> float:
    if cell["spread"] == "equal":
        return 0.95 - cell["b"] * (1 + cell["liars"])
    return 0.9 - 0.1 * cell["liars"] - (0.2 if cell["b"] == 0 else 0.0)


def noise_rule(cell: Cell) -> float:
    return 0.8 if cell["rule"] == "gap" else 0.8 - abs(cell["size"] - 0.016)


def dropsign_faults(cell: Cell) -> float:
    signs = cell["method"] in ("signSGD vote", "DropSign 0.3+0.5")
    return 0.9 if cell["fault"] == "none" or signs else 0.1


def dropsign_constant(cell: Cell) -> float:
    return 0.5 if cell["c"] == 0.1 else 0.9


HOLDING: dict[str, Rule] = {
    "figure-3": figure_3,
    "heterogeneity": heterogeneity,
    "noise-map": noise_map,
    "noise-rule": noise_rule,
    "dropsign-faults": dropsign_faults,
    "dropsign-constant": dropsign_constant,
}


@pytest.mark.parametrize("name", HOLDING)
def test_what_holds_is_reproduced(name: str) -> None:
    assert all(judged(name, made(name, HOLDING[name])))


@pytest.mark.parametrize("name", sorted(HOLDING.keys() - {"noise-rule", "dropsign-faults", "dropsign-constant"}))
def test_no_difference_reproduces_nothing(name: str) -> None:
    assert not any(judged(name, made(name, lambda cell: 0.5)))


def test_the_rule_for_b_must_not_be_a_point_worse() -> None:
    def worse(cell: Cell) -> float:
        return noise_rule(cell) - (0.01 if cell["rule"] == "gap" and cell["task"] == "mnist, deep" else 0.0)

    assert judged("noise-rule", made("noise-rule", worse)) == [True, True, False, True]

    def badly_tuned(cell: Cell) -> float:
        return noise_rule(cell) + (0.05 if cell["rule"] == "gap" and cell["size"] == 4 else 0.0)

    assert judged("noise-rule", made("noise-rule", badly_tuned))[0] is False


def test_a_rule_that_wins_for_some_seeds_only_is_not_reproduced_but_in_kind() -> None:
    records = made("noise-rule", noise_rule)
    moved = {0: -0.02, 1: 0.0, 2: 0.04, 3: 0.0}
    mixed = [
        Record(r.cell, {**r.numbers, "test_accuracy": [0.1, 0.2, 0.8 + moved[r["seed"]]]}, 0)
        if r["rule"] == "gap"
        else r
        for r in records
    ]
    assert {v.outcome for v in claim_named("noise-rule").judge(mixed)[1:]} == {Outcome.IN_KIND}
    assert {v.outcome for v in claim_named("noise-rule").judge(records)} == {Outcome.REPRODUCED}


def figure_2(cell: Cell) -> float:
    return 0.6 if cell["setting"] == "none" else 0.9 + 0.01 * cell["seed"]


def test_the_gap_of_figure_2_must_be_wide_and_certain() -> None:
    assert judged("figure-2", made("figure-2", figure_2, grad_norm=[1.0])) == [True] * 6
    assert (
        judged("figure-2", made("figure-2", lambda cell: 0.6 if cell["setting"] == "none" else 0.69, grad_norm=[1.0]))
        == [False] * 6
    )
    lucky = made("figure-2", lambda cell: 0.5 if cell["setting"] == "none" or cell["seed"] else 1.0, grad_norm=[1.0])
    assert judged("figure-2", lucky) == [False] * 6


def test_one_fault_that_ruins_dropsign_is_enough() -> None:
    def ruined(cell: Cell) -> float:
        return 0.2 if cell["fault"] == "1 of 7 random" else 0.9

    assert judged("dropsign-faults", made("dropsign-faults", ruined)) == [False, True]
    assert judged("dropsign-faults", made("dropsign-faults", lambda cell: 0.9)) == [True, False]


def test_a_large_c_that_works_contradicts_the_paper() -> None:
    assert not any(judged("dropsign-constant", made("dropsign-constant", lambda cell: 0.9)))


def test_a_diverged_run_counts_as_none() -> None:
    records = made("dropsign-constant", lambda cell: 0.9)
    fallen = [Record(r.cell, {**r.numbers, "status": "diverged"}, 0) if r["c"] == 0.1 else r for r in records]
    assert all(judged("dropsign-constant", fallen))


def test_bits_until_an_accuracy() -> None:
    curve = {"step": [0, 10, 20, 30], "bits_up": [None, 1.0, 1.0, 1.0], "bits_down": [None, 2.0, 2.0, 2.0]}
    records = [Record({}, {**curve, "test_accuracy": a}, 0) for a in ([0.1, 0.6, 0.5, 0.9], [0.1, 0.4, 0.7, 0.8])]
    assert frontier.bits_to_reach(records, 0.5) == (30 + 60) / 2
    assert frontier.bits_to_reach(records, 0.85) is None


@pytest.mark.parametrize(("sgd", "power", "expected"), [(32.0, 0.5, [True, True]), (2.0, 5.0, [False, False])])
def test_the_frontier_counts_bits(sgd: float, power: float, expected: list[bool]) -> None:
    bits = {"sgd": sgd, "powersgd": power, "mediansgd": 32.0, "noisy-mediansgd": 32.0}
    records = made("frontier", lambda cell: 0.9)
    each = [(r, [None] + [bits.get(r["method"], 1.0)] * 2) for r in records]
    priced = [Record(r.cell, {**r.numbers, "bits_up": b, "bits_down": b}, 0) for r, b in each]
    assert judged("frontier", priced) == expected


def test_the_transformer_s_losses() -> None:
    losses = {"AdamW, mean": 1.5, "SGD, mean": 1.9, "Signum": 1.55}
    bytes_of = {"AdamW, mean": 3.2e7, "SGD, mean": 3.2e7}

    def records(**changed: float) -> list[Record]:
        ends = losses | changed
        return [
            Record(
                cell,
                {
                    "loss": [4.0, ends.get(cell["method"], 1.8) + cell["lr"]],
                    "bytes": [0, bytes_of.get(cell["method"], 1e6)],
                    "step": [0, 60],
                    "diverged": cell["lr"] > 0.1,
                },
                0,
            )
            for cell in claim_named("transformer").cells("quick")
        ]

    assert judged("transformer", records()) == [True, True]
    assert judged("transformer", records(Signum=1.7)) == [False, True]
    assert judged("transformer", records(DropSign=2.5)) == [True, False]


def dropsign_tables(drop: float, links: float, bits: float) -> list[Record]:
    def accuracy(cell: Cell) -> float:
        if cell.get("inverted"):
            return links
        return drop if "DropSign" in cell["method"] else 0.9

    return [
        Record(r.cell, {"bits": bits * BITS[r["method"]]}, 0) if "coordinates" in r.cell else r
        for r in made("dropsign-tables", accuracy)
    ]


@pytest.mark.parametrize(
    ("drop", "links", "bits", "expected"),
    [
        (0.89, 0.7, 1.02, [True, True, True, True]),
        (0.85, 0.7, 1.0, [False, True, True, True]),
        (0.9, 0.3, 1.05, [True, False, False, False]),
    ],
)
def test_the_tables_of_dropsign(drop: float, links: float, bits: float, expected: list[bool]) -> None:
    assert judged("dropsign-tables", dropsign_tables(drop, links, bits)) == expected


def test_measured_bits_are_the_table_s() -> None:
    cells = [cell for cell in claim_named("dropsign-tables").cells("quick") if "coordinates" in cell]
    assert len(cells) == len(BITS)
    for cell in cells:
        small = {**cell, "coordinates": 100_000}
        assert claim_named("dropsign-tables").measure(small, Bench(Path()))["bits"] == pytest.approx(
            BITS[cell["method"]], rel=0.03
        )
