import sys

import pytest
import torch
from torch import nn

import gradvote
from gradvote import algorithms
from gradvote.errors import MissingExtra


def test_without_torchft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchft.manager", None)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(MissingExtra, match=r"gradvote\[torchft\]"):
        gradvote.torchft.attach(object(), model, optimizer, algorithms.signum(), worker=0)
