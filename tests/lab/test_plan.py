import pytest

from gradvote.lab import plan, quantities
from gradvote.lab.plan import Link, Work

FREE = {name: Work(0.0, 0.0) for name in plan.DEFAULT}


def _row(found: plan.Plan, name: str, placement: str) -> plan.Prediction:
    return next(p for p in found.predictions if (p.name, p.placement) == (name, placement))


def test_bytes_are_those_of_the_placements() -> None:
    found, bits = plan.predict(1_000_000, 4, Link(1e8), work=FREE), 1e6 * (1 + 1 / 64)
    assert _row(found, "signsgd", "sharded").bytes_sent == pytest.approx(0.75 * 2 * bits / 8, rel=0.001)
    assert _row(found, "signsgd", "central").bytes_sent == pytest.approx(3 * 2 * bits / 8, rel=0.001)
    assert _row(found, "signsgd", "replicated").bytes_sent == pytest.approx(3 * bits / 8, rel=0.001)
    assert found.baseline.bytes_sent == pytest.approx(2 * 0.75 * 4e6)


def test_bits_include_flags_and_expected_masks() -> None:
    from gradvote import algorithms

    assert plan.bits_of(algorithms.signsgd()) == pytest.approx((1 + 1 / 64,) * 2, rel=0.01)
    assert plan.bits_of(algorithms.dropsignsgd()) == pytest.approx((0.3, 0.5), rel=0.03)
    assert plan.bits_of(algorithms.ef_signsgd()) == pytest.approx((1, 32), rel=0.01)


MEASURED = {
    "signsgd": (0.27, 1.03),
    "signum": (4.46, 5.14),
    "dist-ef-sgdm": (9.47, 10.6),
    "dropsignsgd": (9.12, 10.8),
}
"""Bytes per parameter of `benchmarks/memory.py`, 25.6M parameters, `Exchange`, four ranks (docs/memory.md)."""


@pytest.mark.parametrize("name", MEASURED)
def test_memory_is_what_was_measured(name: str) -> None:
    row = _row(plan.predict(25_600_000, 4, Link(1e8), names=[name], work={name: Work(0.0, 0.0)}), name, "sharded")
    found = (row.memory.kept / 25.6e6, row.memory.peak / 25.6e6)
    assert found == pytest.approx(MEASURED[name], rel=0.15)


def test_compression_pays_on_slow_links_and_not_where_work_or_computation_decides() -> None:
    assert plan.predict(25_600_000, 4, Link(1e8), work=FREE).pays
    slow = {name: Work(1e-6, 1e-6) for name in plan.DEFAULT}
    fast = plan.predict(25_600_000, 4, Link(1e11), work=slow)
    assert not fast.pays
    assert fast.best.placement == "all-reduce"
    assert not plan.predict(10_000, 4, Link(1e9), compute=5.0, work=FREE).pays


def test_measured_work_is_positive() -> None:
    from gradvote import algorithms

    work = plan.measure(algorithms.signsgd(), d=1000)
    assert work.worker > 0 and work.server > 0


@pytest.mark.parametrize(
    ("params", "workers", "link"), [(0, 4, Link(1.0)), (5, 1, Link(1.0)), (5, 2, Link(0.0)), (5, 2, Link(1.0, -1.0))]
)
def test_impossible_plans_are_refused(params: int, workers: int, link: Link) -> None:
    with pytest.raises(ValueError, match="A plan needs"):
        plan.predict(params, workers, link, work=FREE)


def test_quantities() -> None:
    assert quantities.count("25.6M") == 25_600_000
    assert quantities.bandwidth("100Mbit") == quantities.bandwidth("0.1gbit/s") == quantities.bandwidth("1e8") == 1e8
    assert quantities.seconds("20ms") == 0.02 and quantities.seconds("0.3s") == 0.3 and quantities.seconds("2") == 2
    assert quantities.count("7B") == 7 * 10**9 and quantities.count("2.5k") == 2500 == quantities.count("2.5e3")
    for text in ("2.5", "0.1", "1e400", "9" * 50, "1e", "٣", "1B/s", ""):
        with pytest.raises(ValueError, match="number of parameters"):
            quantities.count(text)
    for read, text in ((quantities.count, "25 cows"), (quantities.bandwidth, "fast"), (quantities.seconds, "1h")):
        with pytest.raises(ValueError, match="cannot be read"):
            read(text)
