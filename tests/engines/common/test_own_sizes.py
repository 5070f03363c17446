"""An optimizer that divides by sizes, behind an algorithm that sends them, is told of once; others are not."""

import warnings

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from gradvote import algorithms
from gradvote.engines.common.own_sizes import DIVIDING
from gradvote.engines.common.parameters import parameters_of
from gradvote.engines.common.training import Training
from gradvote.optim import sgd_for
from gradvote.theory.learning_rates import ADAMS

MODEL = nn.Linear(2, 2)


class Wrapper(Optimizer):
    """As Accelerate's."""

    def __init__(self, inner: Optimizer) -> None:
        self.optimizer, self.param_groups, self.state, self.defaults = inner, inner.param_groups, inner.state, {}


def said(name: str, optimizer: Optimizer) -> list[str]:
    parameters = parameters_of(MODEL.named_parameters(), "here")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        Training(parameters, algorithms.create(name), [optimizer], None, None, "again", [MODEL])
    return [str(warning.message) for warning in found]


@pytest.mark.parametrize("name", ["dist-ef-sgdm", "dist-ef-adam", "ef-signsgd", "dropsignsgd"])
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad])
def test_sizes_are_lost(name: str, kind: type[Optimizer]) -> None:
    for optimizer in (kind(MODEL.parameters(), 0.1), Wrapper(kind(MODEL.parameters(), 0.1))):  # type: ignore[call-arg]  # a rate
        (text,) = said(name, optimizer)
        assert text.startswith(kind.__name__) and "sgd_for" in text


def test_nothing_is_said_of_what_fits() -> None:
    adam = torch.optim.AdamW(MODEL.parameters(), 1e-3)
    for name in ("signsgd", "signum", "sgd", "mediansgd"):
        assert said(name, adam) == []
    for name in ("dist-ef-sgdm", "dist-ef-adam"):
        assert said(name, torch.optim.SGD(MODEL.parameters(), 0.1)) == []
    assert said("dist-ef-adam", sgd_for(adam, algorithms.dist_ef_adam())) == []


def test_all_that_the_suggested_rates_know_as_adam_are_meant() -> None:
    assert set(ADAMS) <= set(DIVIDING)
