"""What was given, what was expected, how to mend it: in every engine."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradvote
from gradvote import algorithms
from gradvote.engines.common.arguments import (
    check_algorithm,
    check_faults,
    check_model,
    check_optimizers,
    check_rule,
    check_seconds,
    check_secret,
    check_seed,
    check_steps_alone,
    check_whole,
)
from gradvote.engines.common.clipping import check_max_norm
from gradvote.engines.common.optimizers import Optimizers
from gradvote.engines.common.parameters import parameters_of
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.common.trained import Trained
from gradvote.engines.simulation import Simulation
from gradvote.privacy import Gaussian

MODEL = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (algorithms.signsgd, r"got the function signsgd\. Call it: gradvote\.algorithms\.signsgd\(\)"),
        ("signsgd", r"got the text 'signsgd'\. Use gradvote\.algorithms\.create\('signsgd'\)"),
        (MODEL, r"got a model \(Linear\)\. The arguments are in another order"),
        (MODEL.parameters(), "got a generator. The arguments are in another order"),
        (torch.optim.SGD, "got the class SGD"),
        (None, "got a NoneType"),
    ],
)
def test_what_is_no_algorithm(given: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        check_algorithm(given, "attach(ddp, algorithm)")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (MODEL, r"got a model \(Linear\)\. Give model\.named_parameters\(\)"),
        (algorithms.signsgd(), "got an Algorithm. The arguments are in another order"),
        (3, "got an int"),
        ([1.0], "got a float among them"),
        ("weights", "got the text 'weights'"),
        (MODEL.weight, "got a Parameter"),
    ],
)
def test_what_are_no_parameters(given: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        parameters_of(given, "Exchange(params, algorithm)")


def test_what_is_no_optimizer() -> None:
    with pytest.raises(TypeError, match=r"got the class SGD\. Give the object: optimizer=SGD\(model"):
        check_optimizers(torch.optim.SGD, "attach")
    with pytest.raises(TypeError, match="takes torch optimizers; got the text 'sgd'"):
        check_optimizers("sgd", "attach")
    assert check_optimizers(None, "attach") == ()


def test_several_optimizers_give_each_parameter_its_rate() -> None:
    a, b = torch.optim.SGD([MODEL.weight], 0.1), torch.optim.AdamW([MODEL.bias], 0.02)
    optimizers = Optimizers(list(MODEL.parameters()), ["weight", "bias"], check_optimizers([a, b], "attach"))
    assert optimizers.rates() == [0.1, 0.02] and optimizers.group_of() == [0, 1]
    assert optimizers.numbers() == [{0}, {1}]
    with pytest.raises(ValueError, match="does not have the parameter 'bias'"):
        Optimizers(list(MODEL.parameters()), ["weight", "bias"], [a])
    with pytest.raises(ValueError, match="'weight' is in two optimizers"):
        Optimizers([MODEL.weight], ["weight"], [a, torch.optim.SGD([MODEL.weight], 0.1)])


def test_a_model_that_averages_by_itself_is_refused() -> None:
    class DistributedDataParallel(nn.Module):
        """As torch's and torchft's are called."""

    with pytest.raises(ValueError, match=r"takes the plain model; got a model \(DistributedDataParallel\)"):
        check_model(DistributedDataParallel(), "attach")


def test_torchfts_wrappers_are_refused() -> None:
    torchft = pytest.importorskip("torchft", reason="needs the extra gradvote[torchft]")
    optimizer = torch.optim.SGD(MODEL.parameters(), 0.1)
    wrapped = torchft.Optimizer(object(), optimizer)
    with pytest.raises(ValueError, match=r"takes the plain optimizer; got an OptimizerWrapper, whose step\(\) commits"):
        gradvote.torchft.attach(object(), MODEL, wrapped, algorithms.signum(), worker=0)
    with pytest.raises(ValueError, match="takes the plain model"):
        model = torchft.DistributedDataParallel.__new__(torchft.DistributedDataParallel)
        gradvote.torchft.attach(object(), model, optimizer, algorithms.signum(), worker=0)


def replica(model: nn.Module, optimizer: Any, **options: Any) -> Replica:
    return Replica(model, optimizer, algorithms.signum(), 0, 0, None, **options)


def test_what_is_unfrozen_or_added_later_is_named() -> None:
    """In elastic and torchft; `Exchange` and DDP ask the same object, and are tried on two ranks."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    own = replica(model, optimizer)
    model(torch.ones(1, 3)).sum().backward()
    own.vote(Slot())
    model[0].requires_grad_(True)
    with pytest.raises(ValueError, match=r"parameter '0\.weight' was frozen when the votes began and is not now"):
        own.vote(Slot())
    model[0].requires_grad_(False)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(4))]})
    with pytest.raises(ValueError, match=r"of shape \(4,\), was added after the votes had begun"):
        own.vote(Slot())


def test_what_an_optimizer_had_from_the_start_is_the_users_own() -> None:
    other = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([*MODEL.parameters(), other], 0.1)
    trained = Trained(parameters_of(MODEL.named_parameters(), ""), [optimizer], "")
    trained.check()


def test_what_an_optimizer_had_frozen_is_watched_too() -> None:
    """Also where only what was trainable then was given."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    given = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    trained = Trained(parameters_of(given, ""), [torch.optim.SGD(model.parameters(), 0.1)], "")
    trained.check()
    model[0].requires_grad_(True)
    with pytest.raises(ValueError, match="parameter '0 of the optimizer' was frozen"):
        trained.check()


def test_sparse_gradients_are_refused_before_anything_is_built() -> None:
    model = nn.Sequential(nn.EmbeddingBag(5, 3, sparse=True), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"gradient of '0\.weight' is sparse.*sparse=False"):
        replica(model, torch.optim.SGD(model.parameters(), 0.1))


def test_elastic_takes_the_optimizers_step_itself() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    own = replica(model, optimizer)
    model(torch.ones(1, 3)).sum().backward()
    ballot = own.vote(Slot())
    own.apply(Slot(), {0: ballot.body})
    with pytest.raises(RuntimeError, match=r"SGD\.step\(\) was called beside the vote"):
        optimizer.step()
    model(torch.ones(1, 3)).sum().backward()
    with pytest.raises(RuntimeError, match=r"'weight' still holds the direction of the last step.*zero_grad"):
        own.vote(Slot(1))


@pytest.mark.parametrize("overflow", [False, True])
def test_elastic_votes_on_true_gradients_and_each_worker_has_its_scale(overflow: bool) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    bodies = []
    for own_scaler in (scaler, torch.amp.GradScaler("cpu", enabled=False), None):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        own = Replica(
            model, torch.optim.SGD(model.parameters(), 0.1), algorithms.mediansgd(), 0, 0, None, scaler=own_scaler
        )
        loss = model(torch.tensor([[1.0, 2.0, 3.0]])).sum() * (float("inf") if overflow else 1.0)
        (loss if own_scaler is None else own_scaler.scale(loss)).backward()
        ballot = own.vote(Slot())
        bodies.append(own.vote(Slot()).body)
        assert bodies[-1] == ballot.body, "asked again, the same ballot"
        own.keep(ballot, True)
        own.apply(Slot(), {0: ballot.body})
        assert all(bool(p.isfinite().all()) and (p.grad is None) == overflow for p in model.parameters())
    assert overflow or bodies[0] == bodies[1] == bodies[2]
    assert scaler.get_scale() == (512.0 if overflow else 2048.0)


def test_a_scaler_without_any_gradient_is_no_assertion() -> None:
    model = nn.Linear(3, 2)
    scaler = torch.amp.GradScaler("cpu")
    own = replica(model, torch.optim.SGD(model.parameters(), 0.1), scaler=scaler)
    scaler.scale(torch.zeros(1))
    own.apply(Slot(), {0: own.vote(Slot()).body})
    assert all(p.grad is None for p in model.parameters())


def test_all_optimizers_of_a_replica_step_at_their_rates() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    before = [p.detach().clone() for p in model.parameters()]
    pair = [torch.optim.SGD([model.weight], 0.5), torch.optim.SGD([model.bias], 0.25)]
    own = replica(model, pair)
    model(torch.ones(1, 3)).sum().backward()
    own.apply(Slot(), {0: own.vote(Slot()).body})
    for p, then, rate in zip(model.parameters(), before, (0.5, 0.25), strict=True):
        torch.testing.assert_close((p - then).abs(), torch.full_like(p, rate))


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "a", None, True, torch.tensor(3)])
def test_what_is_no_seed(seed: Any) -> None:
    """A seed of 2**70 was the seed 0, in silence."""
    with pytest.raises((TypeError, ValueError), match=r"[Ss]eed"):
        check_seed(seed)


@pytest.mark.parametrize("secret", ["text", b"", b"fifteen bytes..", 5])
def test_what_is_no_secret(secret: Any) -> None:
    """Noise that an empty key gives protects nobody, whatever an account says."""
    with pytest.raises((TypeError, ValueError), match="secret="):
        check_secret(secret)


@pytest.mark.parametrize("seconds", [0, -1, "a", None, True, float("nan"), float("inf")])
def test_what_is_no_time(seconds: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout is a time in seconds"):
        check_seconds("timeout", seconds)


@pytest.mark.parametrize("number", [0, -1, 1.5, "a", True, None])
def test_what_is_no_count(number: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="chunks is how many"):
        check_whole("chunks", number, 1, "how many")


@pytest.mark.parametrize("faults", [5, "x", ["x"]])
def test_what_are_no_faults(faults: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a sequence of gradvote\.faults\.Faulty"):
        check_faults(faults)


def test_other_arguments_of_another_type() -> None:
    with pytest.raises(TypeError, match="placement is a name"):
        check_rule(algorithms.signsgd(), None)  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(TypeError, match="max_norm is the bound"):
        check_max_norm("1", algorithms.signsgd())  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(TypeError, match="delta must be a number; got '1e-5'"):
        Gaussian(noise_multiplier=1.0, max_norm=1.0, delta="1e-5")  # type: ignore[arg-type]  # a user's mistake
    with pytest.raises(ValueError, match="LBFGS evaluates the loss again"):
        check_steps_alone([torch.optim.LBFGS([nn.Parameter(torch.zeros(1))])], "vote.step()")


def test_a_simulated_round_takes_one_row_for_each_worker() -> None:
    """One row was taken for the gradients of all workers."""
    model = nn.Linear(4, 3)
    simulation = Simulation(protocol_for([*model.parameters()], algorithms.signsgd(), 0), 3)
    for given in (torch.zeros(15), torch.zeros(2, 15), torch.zeros(3, 14), [[0.0] * 15] * 3):
        with pytest.raises(ValueError, match=r"of shape \(3, 15\) \(workers, coordinates\); got"):
            simulation.step(given, 0, 0.1)  # type: ignore[arg-type]  # a user's mistake
    assert simulation.counts.steps == 0
    with pytest.raises((TypeError, ValueError), match="num_workers is how many"):
        Simulation(simulation.protocol, 1.5)  # type: ignore[arg-type]  # a user's mistake


@pytest.mark.parametrize(
    ("step", "lr", "text"),
    [
        (-1, 0.1, "step is the number of this round, a whole number from 0 on; got -1"),
        (1.5, 0.1, "got 1.5"),
        ("a", 0.1, "got 'a'"),
        (0, None, "lr is the learning rate of this round, a number or one for each parameter; got None"),
        (0, [0.1, "b"], "lr is the learning rate of this round, a number"),
        (0, float("nan"), "lr is the learning rate of this round, which is finite; got nan"),
        (0, [0.1, float("inf")], "which is finite"),
    ],
)
def test_a_simulated_round_has_a_number_and_a_rate(step: Any, lr: Any, text: str) -> None:
    """A rate of NaN went into the memories, and whatever was no number ended in an internal error."""
    model = nn.Linear(4, 3)
    simulation = Simulation(protocol_for([*model.parameters()], algorithms.ef_signsgd(), 0), 3)
    with pytest.raises((TypeError, ValueError), match=text):
        simulation.step(torch.ones(3, 15), step, lr)
    assert simulation.counts.steps == 0
    for number, rate in ((np.int64(0), np.float32(0.1)), (1, [0.1, 0.2]), (torch.tensor(2), torch.tensor(0.1).item())):
        simulation.step(torch.ones(3, 15), number, rate)  # type: ignore[arg-type]  # whatever counts
