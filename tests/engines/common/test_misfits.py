"""What needs true gradients, or the sizes of steps, is told, or refused, where directions are something else."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal
from torch.optim import LBFGS, SGD, Optimizer

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.common.misfits import DIVIDING, check_constants, warn_of_differences, warn_of_inner
from gradvote.engines.common.parameters import parameters_of
from gradvote.engines.common.training import Training
from gradvote.optim import sgd_for
from gradvote.theory.learning_rates import ADAMS

MODEL = nn.Linear(2, 2)


@pytest.mark.parametrize("make", [algorithms.signsgd, algorithms.signum, algorithms.dist_ef_sgdm])
def test_lbfgs_is_told_that_signs_have_no_differences(make: type[Algorithm]) -> None:
    parameters = nn.Linear(2, 2).parameters()
    with pytest.warns(
        UserWarning, match=r"LBFGS learns the curvature .*such as signs.* or AdamW, or an algorithm that"
    ):
        warn_of_differences([LBFGS(parameters)], make(), stacklevel=1)


def test_lbfgs_is_told_that_a_round_moves_the_model() -> None:
    with pytest.warns(UserWarning, match=r"a round of local steps moves the model .*SGD or AdamW as the inner"):
        warn_of_inner([LBFGS(nn.Linear(2, 2).parameters())], stacklevel=1)


def test_what_fits_is_not_told() -> None:
    model = nn.Linear(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_differences([LBFGS(model.parameters())], algorithms.sgd(), stacklevel=1)
        warn_of_differences([SGD(model.parameters(), 0.1)], algorithms.signsgd(), stacklevel=1)
        warn_of_inner([SGD(model.parameters(), 0.1)], stacklevel=1)


@pytest.mark.parametrize("name", ["signsgd", "signum", "dist-ef-sgdm", "dist-ef-adam", "dropsignsgd", "lion"])
def test_constants_in_a_parameter_that_signs_would_move_are_refused(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), orthogonal(nn.Linear(4, 3), orthogonal_map="householder"))
    with pytest.raises(
        ValueError, match=r"layer '1' is kept orthogonal .*zero='abstain'.* orthogonal_map='matrix_exp'"
    ):
        check_constants(model.modules(), algorithms.create(name), model.parameters())
    check_constants(model.modules(), algorithms.create(name), model[0].parameters())  # no vote touches the layer


def test_orthogonal_layers_that_no_sign_can_break_are_fine() -> None:
    """And they stay orthogonal: with `zero="abstain"` what has no gradient does not move."""
    reflected = orthogonal(nn.Linear(4, 3), orthogonal_map="householder")
    for algorithm in (algorithms.signsgd(zero="abstain"), algorithms.sgd(), algorithms.mediansgd()):
        check_constants([reflected], algorithm, reflected.parameters())
    mapped = orthogonal(nn.Linear(4, 3), orthogonal_map="matrix_exp")
    check_constants([mapped], algorithms.signsgd(), mapped.parameters())
    with torch.no_grad():
        original = mapped.parametrizations.weight.original  # type: ignore[union-attr]
        original += torch.randn(original.shape).sign() * 0.1
    assert torch.allclose(mapped.weight @ mapped.weight.T, torch.eye(3), atol=1e-5)


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
