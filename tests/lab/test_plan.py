import pytest

from gradvote import algorithms
from gradvote.lab import advice, plan, quantities
from gradvote.lab.memory import elastic_memory, memory
from gradvote.lab.plan import Link, Work
from gradvote.rounding import with_state_dtype

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
    assert plan.bits_of(algorithms.signsgd()) == pytest.approx((1 + 1 / 64,) * 2, rel=0.01)
    assert plan.bits_of(algorithms.dropsignsgd()) == pytest.approx((0.3, 0.5), rel=0.03)
    assert plan.bits_of(algorithms.ef_signsgd()) == pytest.approx((1, 32), rel=0.01)


MEASURED = {
    "signsgd": (0.27, 1.03),
    "signum": (4.44, 5.97),
    "dist-ef-sgdm": (9.30, 11.9),
    "dropsignsgd": (9.42, 11.8),
    "mediansgd": (0.49, 3.21),
}
"""Bytes per parameter of `benchmarks/memory.py`, 25.6M parameters, `Exchange`, four ranks (docs/memory.md)."""


@pytest.mark.parametrize("name", MEASURED)
def test_memory_is_what_was_measured(name: str) -> None:
    row = _row(plan.predict(25_600_000, 4, Link(1e8), names=[name], work={name: Work(0.0, 0.0)}), name, "sharded")
    found = (row.memory.kept / 25.6e6, row.memory.peak / 25.6e6)
    assert found == pytest.approx(MEASURED[name], rel=0.15)


HALVED = {"signum": (2.45, 4.13), "dist-ef-sgdm": (4.70, 8.08), "dropsignsgd": (4.85, 6.81)}
"""The same with states in bfloat16."""
ELASTIC = {
    ("signsgd", 2, 10): (2.67, 4.07),
    ("signsgd", 3, 10): (2.03, 3.35),
    ("signsgd", 3, 24): (1.56, 2.84),
    ("dropsignsgd", 2, 10): (11.9, 20.9),
    ("dropsignsgd", 3, 10): (10.2, 23.1),
}
"""Of a member of an elastic run, kept after seven steps and the peak of the next three: replicated with two workers,
sharded with three; millions of parameters."""


@pytest.mark.parametrize("name", HALVED)
def test_memory_of_states_in_bfloat16_is_what_was_measured(name: str) -> None:
    made = {name: with_state_dtype(algorithms.create(name), "bfloat16")}
    row = _row(plan.predict(25_600_000, 4, Link(1e8), names=made, work={name: Work(0.0, 0.0)}), name, "sharded")
    assert (row.memory.kept / 25.6e6, row.memory.peak / 25.6e6) == pytest.approx(HALVED[name], rel=0.15)


def test_dense_ballots_need_a_few_chunks_whatever_the_size_of_the_model() -> None:
    algorithm = algorithms.create("mediansgd")
    small, large = (memory(algorithm, d, 4, "sharded", plan.bits_of(algorithm)) for d in (25_600_000, 7_000_000_000))
    assert large.peak == pytest.approx(small.peak, rel=0.1) and large.peak < 100e6
    central = memory(algorithm, 25_600_000, 4, "central", plan.bits_of(algorithm))
    assert 1.5 < central.peak / small.peak < 2.5, "its server has the ballots of all, and sends as many decisions"


@pytest.mark.parametrize("case", ELASTIC, ids=str)
def test_memory_of_an_elastic_member_is_what_was_measured(case: tuple[str, int, float]) -> None:
    (name, workers, millions), (kept, peak) = case, ELASTIC[case]
    placement = "sharded" if workers == 3 else "replicated"
    algorithm, d = algorithms.create(name), int(millions * 1e6)
    after, within = (
        elastic_memory(algorithm, d, workers, plan.bits_of(algorithm), steps, placement) for steps in (7, 10)
    )
    assert (after.kept / d, within.peak / d) == pytest.approx((kept, peak), rel=0.15)


def test_compression_pays_on_slow_links_and_not_where_work_or_computation_decides() -> None:
    assert plan.predict(25_600_000, 4, Link(1e8), work=FREE).pays
    slow = {name: Work(1e-6, 1e-6) for name in plan.DEFAULT}
    fast = plan.predict(25_600_000, 4, Link(1e11), work=slow)
    assert not fast.pays
    assert fast.best.placement == "all-reduce"
    assert not plan.predict(10_000, 4, Link(1e9), compute=5.0, work=FREE).pays


def test_shards_share_the_link_of_their_worker() -> None:
    """Each rank sends an eighth, and all eight as much as one rank would; votes begin after the backward pass."""
    found = [plan.predict(1_000_000, 4, Link(1e8), compute=0.3, work=FREE, shards=shards) for shards in (1, 8)]
    (one, own), (baseline, shared) = ([_row(f, "signsgd", "sharded") for f in found], [f.baseline for f in found])
    assert own.bytes_sent == pytest.approx(one.bytes_sent / 8) and own.exchange == pytest.approx(one.exchange)
    assert own.step == pytest.approx(0.3 + own.exchange) and one.step == pytest.approx(0.3)
    assert shared.bytes_sent == pytest.approx(baseline.bytes_sent / 8) and shared.step == pytest.approx(baseline.step)
    with pytest.raises(ValueError, match="got shards=0"):
        plan.predict(1_000_000, 4, Link(1e8), work=FREE, shards=0)


def test_the_calls_of_each_chunk_are_work() -> None:
    """25.6M coordinates travel in 8, 3 or 1 chunks, with masks, too, whatever is fastest."""
    for calls, chunks in ((0.001, 8), (10.0, 1)):
        work = {"dropsignsgd": Work(0.0, 0.0, calls)}
        found = plan.predict(25_600_000, 4, Link(1e8), names=("dropsignsgd",), work=work)
        row = _row(found, "dropsignsgd", "sharded")
        assert row.work == pytest.approx(chunks * calls)
        long, short = max(row.wire, row.work), min(row.wire, row.work)
        assert row.exchange == pytest.approx(long + short * (0.05 if chunks == 8 else 1))


def test_measured_work_is_positive() -> None:
    work = plan.measure(algorithms.signsgd(), d=1000)
    assert work.worker > 0 and work.server > 0 and work.chunk >= 0


@pytest.mark.parametrize(
    ("params", "workers", "link"), [(0, 4, Link(1.0)), (5, 1, Link(1.0)), (5, 2, Link(0.0)), (5, 2, Link(1.0, -1.0))]
)
def test_impossible_plans_are_refused(params: int, workers: int, link: Link) -> None:
    with pytest.raises(ValueError, match="A plan needs"):
        plan.predict(params, workers, link, work=FREE)


def test_quantities() -> None:
    assert quantities.count("25.6M") == 25_600_000
    assert quantities.bandwidth("100Mbit") == quantities.bandwidth("0.1gbit/s") == quantities.bandwidth("1e8") == 1e8
    assert (
        quantities.bandwidth("12.5MB/S") == quantities.bandwidth("12.5MBps") == quantities.bandwidth("100Mbps") == 1e8
    )
    assert quantities.bandwidth("100MBit") == quantities.bandwidth("100Mb/s") == 1e8, "a small b, and Bit, are bits"
    assert [quantities.rate(bits) for bits in (0.5, 100, 2e4, 1e8, 1e10)] == [
        "0.5 bit/s", "100 bit/s", "20 kbit/s", "100 Mbit/s", "10 Gbit/s"
    ]  # fmt: skip
    assert quantities.seconds("20ms") == 0.02 and quantities.seconds("0.3s") == 0.3 and quantities.seconds("2") == 2
    assert quantities.count("7B") == 7 * 10**9 and quantities.count("2.5k") == 2500 == quantities.count("2.5e3")
    for text in ("2.5", "0.1", "1e400", "9" * 50, "1e", "٣", "1B/s", ""):
        with pytest.raises(ValueError, match="number of parameters"):
            quantities.count(text)
    for read, text in ((quantities.count, "25 cows"), (quantities.bandwidth, "fast"), (quantities.seconds, "1h")):
        with pytest.raises(ValueError, match="cannot be read"):
            read(text)


def test_after_local_steps_a_step_has_its_share_of_a_round() -> None:
    found = plan.predict(1_000_000, 4, Link(1e8), compute=0.1, work=FREE, every=32)
    row, often = (
        _row(found, "signsgd", "sharded"),
        _row(plan.predict(1_000_000, 4, Link(1e8), work=FREE), "signsgd", "sharded"),
    )
    assert row.bytes_sent == often.bytes_sent and row.step == pytest.approx(0.1 + often.exchange / 32)
    assert found.baseline.step > 0.2, "the all-reduce stays at every step"
    with pytest.raises(ValueError, match="got every=0"):
        plan.predict(1_000_000, 4, Link(1e8), work=FREE, every=0)


def test_fragments_share_a_round_and_a_delay_hides_it() -> None:
    def row(**rounds: int) -> plan.Prediction:
        return _row(plan.predict(1_000_000, 4, Link(1e6), compute=0.5, work=FREE, **rounds), "signsgd", "sharded")

    whole, parts, late = row(every=8), row(every=8, fragments=4), row(every=8, fragments=4, delay=1)
    assert parts.bytes_sent == pytest.approx(whole.bytes_sent / 4) and parts.step == pytest.approx(whole.step)
    assert late.exchange == parts.exchange < 0.5 and late.step == 0.5 < parts.step
    for bad in ({"every": 2, "fragments": 3}, {"every": 8, "fragments": 4, "delay": 2}, {"delay": 1}):
        with pytest.raises(ValueError, match=r"got (fragments|delay)="):
            row(**bad)


@pytest.mark.parametrize(
    ("bandwidth", "text"),
    [
        (1e12, "averaging in float32 at every step, as a step takes 1.0, 0%"),
        (2e7, "signsgd (sharded) at every step, as a step takes 1.0, 0%"),
        (6e5, "signsgd (sharded) after every 32 local steps"),
        (2e5, "in 8 fragments a step late"),
        (1e3, "No way here comes within a tenth"),
    ],
)
def test_the_advice_is_the_least_that_keeps_the_link_from_holding_up(bandwidth: float, text: str) -> None:
    work = {"signsgd": Work(0.0, 0.0)}

    def plan_of(way: advice.Way) -> plan.Plan:
        rounds = {"every": way.every, "fragments": way.fragments, "delay": way.delay}
        return plan.predict(1_000_000, 4, Link(bandwidth), 1.0, ["signsgd"], ["sharded"], work=work, **rounds)

    found = advice.advise(plan_of, 1.0)
    said = advice.sentence(found, 1.0, 1, lambda seconds: f"{seconds:.1f}")
    assert text in said, said
    if found.enough and found.way.every > 1:
        assert found.chosen.step <= 1.1 < found.voted.step < found.averaged.step
    assert "replicas of 8 shards" in advice.sentence(found, 1.0, 8, str)
