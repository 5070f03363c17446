"""Faults in every place of the simulated exchange."""

import pytest
import torch

from gradvote import algorithms
from gradvote.algorithms import ef_signsgd, mediansgd, noisy, sgd, signsgd, signum
from gradvote.faults import Faulty
from gradvote.faults.blind import Blind
from gradvote.faults.drop import Drop
from gradvote.faults.invert import Invert
from gradvote.faults.nan import Nan
from gradvote.faults.random import Random
from gradvote.faults.rescale import Rescale
from gradvote.transforms import Relative
from tests.engines.simulations import NAMES, D, all_finite, gradients, in_groups, mean, memories, run, simulation


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
        assert bool(directions.isfinite().all()) and all_finite(sim.workers) and all_finite(sim.server)

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
        assert torch.allclose(memories(sim)[1], in_groups(sim, unsent) * momentum, rtol=1e-6)
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
        assert torch.equal(directions, torch.stack([mean(gradients(s)[1:]) for s in range(4)]))
        assert sim.counts.abstentions.tolist() == [12, 0, 0, 0, 0]
        assert sim.counts.bytes_up == run(sgd())[0].counts.bytes_up  # it was sent

    def test_a_link_that_returns_nan_is_silenced(self):
        sim, directions = run(sgd(), faults=[Faulty(Nan(), "uplink", (0,))])
        assert torch.equal(directions, torch.stack([mean(gradients(s)[1:]) for s in range(4)]))
        assert sim.counts.abstentions.tolist() == [12, 0, 0, 0, 0]

    def test_an_unbounded_link_ruins_themean(self):
        _, directions = run(sgd(), faults=[Faulty(Rescale(-1000), "uplink", (0,))])
        assert torch.allclose(directions[0], mean(gradients(0) * torch.tensor([-1000.0, 1, 1, 1, 1])[:, None]))


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
    assert all_finite(first[0].workers) and all_finite(first[0].server)
