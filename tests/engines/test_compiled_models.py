"""A compiled model is the same model: its votes, and its checkpoints, are those of the plain one."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

import gradvote
from gradvote.distributed import Exchange


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def exchange_of(compiled: bool, steps: int) -> Exchange:
    """An exchange that has been used; nothing is compiled before a forward pass."""
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    named = (torch.compile(model) if compiled else model).named_parameters()  # type: ignore[attr-defined]  # a module
    exchange = Exchange(named, gradvote.algorithms.dist_ef_sgdm())
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.randn(p.shape)
        exchange.step()
    return exchange


@pytest.mark.parametrize("compiled", [False, True])
def test_checkpoints_go_from_one_to_the_other(compiled: bool) -> None:
    saved, other = exchange_of(compiled, 2).state_dict(), exchange_of(not compiled, 0)
    other.load_state_dict(saved)
    again = other.state_dict()
    assert again["recipe"] == saved["recipe"] and again["step"] == 2
    for param, own in saved["worker"].items():
        assert all(torch.equal(own[name], again["worker"][param][name]) for name in own)


def test_those_of_a_compiled_model_from_before_load() -> None:
    saved = exchange_of(True, 1).state_dict()
    old = {**saved, "recipe": saved["recipe"].replace("('0.", "('_orig_mod.0.").replace("('1.", "('_orig_mod.1.")}
    old |= {side: {f"_orig_mod.{param}": own for param, own in saved[side].items()} for side in ("worker", "server")}
    assert "_orig_mod." in old["recipe"]
    exchange_of(False, 0).load_state_dict(old)
