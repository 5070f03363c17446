"""What needs true gradients is told, or refused, where directions are something else."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal
from torch.optim import LBFGS, SGD

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.common.misfits import check_constants, warn_of_differences, warn_of_inner


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
