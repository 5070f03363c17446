"""What is no number, key or time is refused in one sentence, before anything is built."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradvote import algorithms
from gradvote.engines.common.arguments import check_faults, check_rule, check_steps_alone
from gradvote.engines.common.clipping import check_max_norm
from gradvote.engines.common.numbers import check_seconds, check_secret, check_seed, check_whole
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.privacy import Gaussian


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
