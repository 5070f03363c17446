"""The simulated exchange: real bytes, and states that are values."""

import math

import pytest
import torch

from gradvote import algorithms, wire
from gradvote.algorithms import dist_ef_sgdm, dropsignsgd, ef_signsgd, mediansgd, noisy, sgd, signsgd
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty
from gradvote.faults.nan import Nan
from gradvote.transforms import Relative
from tests.engines.simulations import (
    NAMES,
    SHAPES,
    D,
    gradients,
    memories,
    run,
    simulation,
)


def test_one_worker_of_sgd_gets_its_gradient():
    _, directions = run(sgd(), num_workers=1)
    assert torch.equal(directions, torch.stack([gradients(step, 1)[0] for step in range(4)]))


def test_an_even_number_of_workers_breaks_ties_fairly():
    sim = simulation(signsgd(), 2)
    direction = sim.step(torch.stack([torch.ones(D), -torch.ones(D)]), 0, 0.1)
    assert set(direction.tolist()) == {-1.0, 1.0}
    assert 0.25 * D < int((direction > 0).sum()) < 0.75 * D
    sim = simulation(signsgd(zero="abstain"), 2)
    assert torch.equal(sim.step(torch.stack([torch.ones(D), -torch.ones(D)]), 0, 0.1), torch.zeros(D))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_every_algorithm_gives_finite_directions_reproducibly(name, num_workers):
    sim, first = run(algorithms.create(name), num_workers)
    _, again = run(algorithms.create(name), num_workers)
    assert first.shape == (4, D) and bool(first.isfinite().all()) and torch.equal(first, again)
    assert sim.counts.steps == 4 and not sim.counts.abstentions.any()


@pytest.mark.parametrize("name", ["noisy-signsgd", "dropsignsgd"])
def test_the_seed_matters_where_something_is_drawn(name):
    directions = [run(algorithms.create(name), seed=seed)[1] for seed in (3, 4)]
    assert not torch.equal(*directions)


class TestBytes:
    """Counted bytes are the lengths of messages, and those are the formula's."""

    blocks = len(SHAPES)
    words = sum(-(-math.prod(shape) // 64) for shape in SHAPES)
    fixed = wire.HEADER_BYTES + 1  # three flags fill one byte

    @pytest.mark.parametrize(
        ("algorithm", "up", "down"),
        [
            (sgd(), 4 * D, 4 * D),
            (sgd(dtype="bfloat16"), 2 * D, 2 * D),
            (mediansgd(), 4 * D, 4 * D),
            (signsgd(), 8 * words + 8 * blocks, 8 * words + 8 * blocks),
            (signsgd(still=False), 8 * words, 8 * words),
            (signsgd(zero="abstain"), 16 * words, 16 * words),
            (ef_signsgd(), 8 * words + 4 * blocks, 4 * D),
            (dist_ef_sgdm(), 8 * words + 4 * blocks, 8 * words + 4 * blocks),
            (noisy(signsgd(), 0.1), 8 * words, 8 * words),
            (noisy(signsgd(), Relative(0.1)), 8 * words + 12 * blocks, 8 * words + 12 * blocks),
        ],
        ids=str,
    )
    def test_sizes(self, algorithm, up, down):
        sim, _ = run(algorithm, num_workers=3, steps=2)
        assert sim.counts.bytes_up == 2 * 3 * (up + self.fixed)
        assert sim.counts.bytes_down == 2 * 3 * (down + self.fixed)

    def test_a_mask_is_paid_for_by_its_kept_bits(self):
        d, steps = 20_000, 5
        sim = Simulation(protocol_for([torch.zeros(d)], dropsignsgd(keep_up=0.3, keep_down=0.5), 0), 2)
        for step in range(steps):
            sim.step(torch.randn(2, d, generator=torch.Generator().manual_seed(step)), step, 0.1)
        assert sim.counts.bytes_up * 8 / (steps * 2 * d) == pytest.approx(0.3, rel=0.15)
        assert sim.counts.bytes_down * 8 / (steps * 2 * d) == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("position", [0, 20, wire.HEADER_BYTES + 3, -1])
@pytest.mark.parametrize("name", ["signsgd", "dropsignsgd"])
def test_an_altered_message_is_refused_and_changes_nothing(name, position, monkeypatch):
    sim, _ = run(algorithms.create(name), steps=2)
    frame, before = wire.frame, sim.state_dict()

    def altered(body, header):
        message = bytearray(frame(body, header))
        message[position] ^= 4
        return bytes(message)

    monkeypatch.setattr(wire, "frame", altered)
    with pytest.raises(wire.WireError):
        sim.step(gradients(2), 2, 0.1)
    monkeypatch.undo()
    assert sim.counts.steps == 2
    resumed = simulation(algorithms.create(name))
    resumed.load_state_dict(before)
    assert torch.equal(sim.step(gradients(2), 2, 0.1), resumed.step(gradients(2), 2, 0.1))


class TestState:
    """A state is a value: it can be taken anywhere, and no other one is accepted."""

    @pytest.mark.parametrize("name", NAMES)
    def test_continuing_from_a_state(self, name):
        whole, directions = run(algorithms.create(name), steps=6)
        half, _ = run(algorithms.create(name), steps=3)
        resumed = simulation(algorithms.create(name))
        resumed.load_state_dict(half.state_dict())
        for step in range(3, 6):
            assert torch.equal(resumed.step(gradients(step), step, 0.1), directions[step])
        assert resumed.counts.bytes_up == whole.counts.bytes_up
        assert torch.equal(resumed.counts.abstentions, whole.counts.abstentions)

    @pytest.mark.parametrize(
        "other",
        [simulation(signsgd()), simulation(dropsignsgd(), 4), simulation(ef_signsgd())],
        ids=["no memory", "fewer workers", "other blocks"],
    )
    def test_a_foreign_state_is_refused(self, other):
        sim, _ = run(dropsignsgd(), steps=2)
        memory = memories(sim).clone()
        with pytest.raises(ValueError, match="expected"):
            sim.load_state_dict(other.state_dict())
        assert torch.equal(memories(sim), memory) and sim.counts.steps == 2

    def test_a_broken_state_is_refused(self):
        sim = simulation(sgd())
        for state in ({}, {"workers": 1}, sim.state_dict() | {"counts": 3}):
            with pytest.raises(ValueError, match="expected"):
                sim.load_state_dict(state)


def test_mistakes():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        simulation(sgd(), 0)
    with pytest.raises(ValueError, match=r"no worker 5: the workers are 0 to 4"):
        simulation(sgd(), 5, [Faulty(Nan(), "worker", (5,))])
    with pytest.raises(ValueError, match="6 faulty workers were asked for, but there are only 5"):
        simulation(sgd(), 5, [Faulty(Nan(), "worker", num=6)])
