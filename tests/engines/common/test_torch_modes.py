"""A training step that a script compiles whole: the vote in it is run as it is."""

import sys
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.optim import SGD

from gradvote import algorithms, local_steps
from gradvote.distributed import Exchange
from gradvote.engines.common.torch_modes import uncompiled
from gradvote.engines.elastic.vote import ElasticVote
from gradvote.engines.torchft.vote import TorchftVote
from tests.engines.test_outside_changes import Alone


class Counted:
    """A method that the compiler must not look into."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    @uncompiled
    def step(self, x: Tensor, *, by: float = 1.0) -> Tensor:
        """What it does."""
        self.seen.append(torch.compiler.is_compiling())
        return x.untyped_storage().data_ptr() and x * by  # type: ignore[return-value]


def test_it_is_never_traced_and_keeps_its_name() -> None:
    counted = Counted()

    def whole(x: Tensor) -> Tensor:
        return counted.step(x + 1, by=2.0) + 1

    compiled = torch.compile(whole, backend="eager")
    for _ in range(3):
        assert torch.equal(compiled(torch.ones(3)), torch.full((3,), 5.0))
    assert counted.seen == [False] * 3
    assert Counted.step.__name__ == "step" and Counted.step.__doc__ == "What it does."


def test_nothing_is_imported_for_it() -> None:
    others = {name: module for name, module in sys.modules.items() if not name.startswith("torch._dynamo")}
    with mock.patch.dict(sys.modules, others, clear=True):
        assert torch.equal(Counted().step(torch.ones(2)), torch.ones(2))
        assert not isinstance(sys.modules.get("torch._dynamo"), ModuleType)


def test_all_steps_that_a_script_calls_are() -> None:
    steps: list[Any] = [Exchange.step, ElasticVote.step, TorchftVote.step, local_steps.LocalSteps.step]
    assert all(step._torchdynamo_disable for step in [*steps, local_steps.LocalSteps.finish])


def test_local_steps_within_a_compiled_function_are_the_same_steps() -> None:
    ends = []
    for compiles in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        inner, outer = SGD(model.parameters(), 0.1), SGD(model.parameters(), 0.5)
        local = local_steps.attach(model, inner, algorithms.diloco(), every=2, outer=outer, engine=Alone)

        def step(model: Any = model, inner: Any = inner, local: Any = local) -> None:
            inner.zero_grad()
            model(torch.ones(4, 3)).square().mean().backward()
            inner.step()
            local.step()

        run = torch.compile(step, backend="eager") if compiles else step
        for _ in range(5):
            run()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)
