"""Every engine says of BatchNorm that its statistics are each worker's own: evaluations would differ in silence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

import gradvote
from gradvote import algorithms, local_steps
from tests.engines.test_outside_changes import Alone


def elastic(model: nn.Module) -> Any:
    return gradvote.elastic.attach(model, SGD(model.parameters(), 0.1), algorithms.signsgd(), min_workers=0)


def torchft(model: nn.Module) -> Any:
    pytest.importorskip("torchft")
    manager: Any = None
    return gradvote.torchft.attach(manager, model, SGD(model.parameters(), 0.1), algorithms.signsgd(), worker=-1)


def local(model: nn.Module) -> Any:
    inner, outer = (SGD(model.parameters(), 0.1) for _ in range(2))
    return local_steps.attach(model, inner, algorithms.diloco(), every=2, outer=outer, engine=Alone)


@pytest.mark.parametrize("attach", [elastic, torchft, local])
@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.GroupNorm(2, 4)])
def test_running_statistics_are_told_where_a_worker_attaches(
    attach: Callable[[nn.Module], Any], layer: nn.Module, recwarn: pytest.WarningsRecorder
) -> None:
    torch.manual_seed(0)
    try:
        attach(nn.Sequential(nn.Linear(4, 4), layer))
    except ValueError as error:
        assert "min_workers" in str(error) or "worker" in str(error)
    said = [w for w in recwarn if issubclass(w.category, UserWarning) and "BatchNorm" in str(w.message)]
    assert len(said) == isinstance(layer, nn.BatchNorm1d)
    for each in said:
        assert "each worker keeps running statistics of its own data" in str(each.message)
        assert "update_bn" in str(each.message) and each.filename == __file__
