"""The simulated exchange: real bytes, faults in every place, states that are values."""

import math

import pytest
import torch

from gradvote import algorithms, wire
from gradvote.algorithms import dist_ef_sgdm, dropsignsgd, ef_signsgd, mediansgd, noisy, sgd, signsgd, signum
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty
from gradvote.faults.blind import Blind
from gradvote.faults.drop import Drop
from gradvote.faults.invert import Invert
from gradvote.faults.nan import Nan
from gradvote.faults.random import Random
from gradvote.faults.rescale import Rescale
from gradvote.transforms import Relative

SHAPES = [(13, 5), (65,), (7,)]
D = sum(math.prod(shape) for shape in SHAPES)
NAMES = [*algorithms.names(), "noisy-signsgd", "noisy-dropsignsgd"]


def simulation(algorithm, num_workers=5, faults=(), seed=3):
    params = [torch.zeros(shape) for shape in SHAPES]
    return Simulation(protocol_for(params, algorithm, seed), num_workers, faults)


def gradients(step, num_workers=5):
    return torch.randn(num_workers, D, generator=torch.Generator().manual_seed(step))


def run(algorithm, num_workers=5, faults=(), steps=4, seed=3):
    sim = simulation(algorithm, num_workers, faults, seed)
    return sim, torch.stack([sim.step(gradients(step, num_workers), step, 0.1) for step in range(steps)])


def memories(sim):
    """The workers' error memories (M, d) or None."""

    def found(state):
        return state["memory"] if "memory" in state else found(state["codec"])

    return torch.cat([found(state).flatten(1) for state in sim.workers], -1)


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
            (signsgd(), 8 * words, 8 * words),
            (signsgd(zero="abstain"), 16 * words, 16 * words),
            (ef_signsgd(), 8 * words + 4 * blocks, 4 * D),
            (dist_ef_sgdm(), 8 * words + 4 * blocks, 8 * words + 4 * blocks),
            (noisy(signsgd(), Relative(0.1)), 8 * words + 4 * blocks, 8 * words + 4 * blocks),
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


class TestFaultyWorkers:
    """Lies about the gradient: the worker's own memory and momentum are made from the lie."""

    @pytest.mark.parametrize(("workers", "flipped"), [((0,), False), ((0, 3), False), ((0, 1, 2), True)])
    def test_inverting_workers_flip_an_agreed_vote_only_as_a_majority(self, workers, flipped):
        sim = simulation(signsgd(), 5, [Faulty(Invert(), "worker", workers)])
        agreed = gradients(0)[:1].expand(5, D)
        assert torch.equal(sim.step(agreed, 0, 0.1), agreed[0].sign() * (-1 if flipped else 1))

    def test_an_inverted_worker_is_one_with_the_negative_gradient(self):
        _, directions = run(signum(), faults=[Faulty(Invert(), "worker", (1,))])
        sim = simulation(signum())
        for step, direction in enumerate(directions):
            lied = gradients(step)
            lied[1] *= -1
            assert torch.equal(sim.step(lied, step, 0.1), direction)

    def test_a_rescaling_worker_ruins_the_mean_not_the_vote_nor_the_median(self):
        faults = [Faulty(Rescale(1e6), "worker", (2,))]
        assert torch.equal(run(signsgd(), faults=faults)[1], run(signsgd())[1])
        assert float(run(sgd(), faults=faults)[1].abs().max()) > 1e4
        assert float(run(mediansgd(), faults=faults)[1].abs().max()) < 10

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("fault", [Nan(), Drop()], ids=str)
    def test_a_worker_without_a_gradient_abstains_by_name_and_spoils_nothing(self, name, fault):
        sim, directions = run(algorithms.create(name), faults=[Faulty(fault, "worker", (2,))])
        blocks = sum(len(group.blocks) for group in sim.protocol.layout.groups)
        assert sim.counts.abstentions.tolist() == [0, 0, 4 * blocks, 0, 0]
        assert bool(directions.isfinite().all()) and _all_finite(sim.workers) and _all_finite(sim.server)

    def test_the_others_alone_decide(self):
        _, directions = run(mediansgd(), faults=[Faulty(Nan(), "worker", (4,))])
        assert torch.equal(directions, torch.stack([gradients(s)[:4].sort(0).values[1:3].sum(0) / 2 for s in range(4)]))

    def test_where_all_are_lost_there_is_no_step(self):
        sim, directions = run(signsgd(), faults=[Faulty(Nan(), "worker", num=5)])
        assert not directions.any() and sim.counts.abstentions.tolist() == [12] * 5


class TestFaultyUplinks:
    """A payload spoilt in transit: the worker does not know."""

    def test_two_of_five_inverted_links_do_not_flip_what_all_agree_on(self):
        sim = simulation(signsgd(), 5, [Faulty(Invert(), "uplink", num=2)])
        agreed = gradients(0)[:1].expand(5, D)
        assert torch.equal(sim.step(agreed, 0, 0.1), agreed[0].sign())

    @pytest.mark.parametrize("name", ["signsgd", "noisy-signsgd", "signum", "lion", "dropsignsgd"])
    @pytest.mark.parametrize("fault", [Rescale(1e9), Rescale(3, spread=100), Nan()], ids=str)
    def test_unscaled_signs_do_not_notice(self, name, fault):
        faulty = Faulty(fault, "uplink", num=2, redraw=True)
        assert torch.equal(run(algorithms.create(name), faults=[faulty])[1], run(algorithms.create(name))[1])

    @pytest.mark.parametrize("fault", [Invert(), Random(), Blind(), Rescale(-5), Nan()], ids=str)
    @pytest.mark.parametrize("name", ["dropsignsgd", "ef-signsgd", "dist-ef-sgdm", "flexcompress"])
    def test_the_memory_is_that_of_a_worker_who_sent_in_vain(self, name, fault):
        """With the same gradients, the first memory after an undisturbed and a spoilt link are the same."""
        spoilt, _ = run(algorithms.create(name), faults=[Faulty(fault, "uplink", (1,))], steps=1)
        clean, _ = run(algorithms.create(name), steps=1)
        assert torch.equal(memories(spoilt), memories(clean))

    @pytest.mark.parametrize("name", ["dropsignsgd", "ef-signsgd", "dist-ef-sgdm", "flexcompress"])
    def test_a_dropped_ballot_leaves_the_memory_of_one_who_sent_nothing(self, name):
        algorithm = algorithms.create(name)
        sim, _ = run(algorithm, faults=[Faulty(Drop(), "uplink", (1,))], steps=1)
        clean, _ = run(algorithm, steps=1)
        unsent = gradients(0)[1]
        momentum = 1.9 if name != "ef-signsgd" else 1.0  # g + μm with m = g
        assert torch.allclose(memories(sim)[1], _in_groups(sim, unsent) * momentum, rtol=1e-6)
        assert torch.equal(memories(sim)[[0, 2, 3, 4]], memories(clean)[[0, 2, 3, 4]])

    def test_only_dropped_ballots_are_returned(self):
        """A second link delivers garbage, which its worker knows nothing of."""
        faults = [Faulty(Drop(), "uplink", (1,)), Faulty(Nan(), "uplink", (2,))]
        sim, _ = run(ef_signsgd(), faults=faults, steps=1)
        clean, _ = run(ef_signsgd(), steps=1)
        assert torch.equal(memories(sim)[[0, 2, 3, 4]], memories(clean)[[0, 2, 3, 4]])
        assert not torch.equal(memories(sim)[1], memories(clean)[1])

    def test_a_dropped_ballot_does_not_count(self):
        sim, directions = run(sgd(), faults=[Faulty(Drop(), "uplink", (0,))])
        assert torch.equal(directions, torch.stack([_mean(gradients(s)[1:]) for s in range(4)]))
        assert sim.counts.abstentions.tolist() == [12, 0, 0, 0, 0]
        assert sim.counts.bytes_up == run(sgd())[0].counts.bytes_up  # it was sent

    def test_a_link_that_returns_nan_is_silenced(self):
        sim, directions = run(sgd(), faults=[Faulty(Nan(), "uplink", (0,))])
        assert torch.equal(directions, torch.stack([_mean(gradients(s)[1:]) for s in range(4)]))
        assert sim.counts.abstentions.tolist() == [12, 0, 0, 0, 0]

    def test_an_unbounded_link_ruins_the_mean(self):
        _, directions = run(sgd(), faults=[Faulty(Rescale(-1000), "uplink", (0,))])
        assert torch.allclose(directions[0], _mean(gradients(0) * torch.tensor([-1000.0, 1, 1, 1, 1])[:, None]))


class TestFaultyDownlinks:
    """Each worker gets a direction of its own."""

    @pytest.mark.parametrize("name", NAMES)
    def test_only_the_workers_hit_get_another_one(self, name):
        sim, directions = run(algorithms.create(name), faults=[Faulty(Invert(), "downlink", (3,))])
        assert directions.shape == (4, 5, D) and sim.diverging
        clean = run(algorithms.create(name))[1]
        assert torch.equal(directions[:, [0, 1, 2, 4]], clean[:, None].expand(4, 4, D))
        assert torch.equal(directions[:, 3], -clean)

    def test_a_dropped_decision_is_no_step(self):
        _, directions = run(signsgd(), faults=[Faulty(Drop(), "downlink", (1, 2))])
        assert not directions[:, [1, 2]].any() and bool(directions[:, [0, 3, 4]].all())

    def test_a_dropped_decision_brings_no_noise_scale(self):
        """A worker that was told nothing goes on with its own largest gradient."""
        sim, _ = run(noisy(signsgd(), Relative(0.1)), faults=[Faulty(Drop(), "downlink", (1,))])
        agreed = torch.cat([state["0"]["agreed"] for state in sim.workers], -1)
        assert bool(agreed[1].isnan().all()) and bool(agreed[[0, 2, 3, 4]].isfinite().all())

    def test_both_ways(self):
        """The same links are faulty in both directions."""
        both = run(signsgd(), faults=[Faulty(Invert(), "both", num=1)])[1]
        up = run(signsgd(), faults=[Faulty(Invert(), "uplink", num=1)])[1]
        hit = Faulty(Invert(), "both", num=1).hits(simulation(signsgd()).contexts(0, 0.1)[0], 5)
        assert int(hit.sum()) == 1
        assert torch.equal(both[:, ~hit], up[:, None].expand(4, 4, D)) and torch.equal(both[:, hit][:, 0], -up)


@pytest.mark.parametrize("place", ["worker", "uplink", "downlink", "both"])
@pytest.mark.parametrize("fault", [Invert(), Rescale(7, 2), Random(), Blind(), Nan(), Drop()], ids=str)
@pytest.mark.parametrize("name", ["sgd", "signsgd", "dist-ef-sgdm", "noisy-dropsignsgd"])
def test_faults_are_reproducible_and_spread_no_nan(name, fault, place):
    plan = [Faulty(fault, place, num=2, redraw=True)]
    first, again = (run(algorithms.create(name), faults=plan, steps=3) for _ in range(2))
    assert torch.equal(first[1], again[1]) and bool(first[1].isfinite().all())
    assert torch.equal(first[0].counts.abstentions, again[0].counts.abstentions)
    assert _all_finite(first[0].workers) and _all_finite(first[0].server)


def test_mistakes():
    with pytest.raises(ValueError, match="at least one worker; got 0"):
        simulation(sgd(), 0)
    with pytest.raises(ValueError, match=r"no worker 5: the workers are 0 to 4"):
        simulation(sgd(), 5, [Faulty(Nan(), "worker", (5,))])
    with pytest.raises(ValueError, match="6 faulty workers were asked for, but there are only 5"):
        simulation(sgd(), 5, [Faulty(Nan(), "worker", num=6)])


def _mean(x):
    total = torch.zeros(D)
    for row in x:
        total = total + row
    return total / len(x)


def _in_groups(sim, flat):
    return torch.cat([view.flatten() for view in sim.protocol.layout.views(flat)])


def _all_finite(state):
    """NaN is allowed only as the mark of a noise scale that nobody knows yet."""
    if isinstance(state, dict):
        return all(_all_finite(value) for key, value in state.items() if key not in ("own", "agreed"))
    if isinstance(state, list):
        return all(map(_all_finite, state))
    return bool(state.isfinite().all())
