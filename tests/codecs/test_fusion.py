"""One pass over memory gives the payloads and states of the parts run one after another."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.codecs import ErrorFeedback, Masked, Sign, chain, fast_paths
from gradvote.core import Codec, Context, State
from gradvote.schedules import PerWorker
from gradvote.transforms import Momentum

CODECS = (
    algorithms.dropsignsgd().up,
    algorithms.dropsignsgd(granularity=64, track_lr=True, zero="positive").up,
    algorithms.dropsignsgd(PerWorker((0.1, 0.9)), c=PerWorker((1e-3, 1e-1)), c_down=0.01).up,
    algorithms.dropsignsgd(zero="abstain").up,
    algorithms.dist_ef_sgdm().up,
    algorithms.flexcompress().up,
    chain(Momentum(0.9), ErrorFeedback(Sign())),
    ErrorFeedback(Masked(0.5, Sign(0.01))),
    ErrorFeedback(Sign("l1")),
)


def _leaves(state: Any) -> Iterator[Tensor]:
    for value in state.values():
        yield from _leaves(value) if isinstance(value, dict) else (value,)


def _run(codec: Codec, n: int) -> list[Tensor]:
    """Payloads and states of four rounds of two workers: an overflow, a NaN, zeros, other rates, among them zero."""
    generator, state, seen = torch.Generator().manual_seed(1), codec.init(torch.zeros(2, 3, n)), list[Tensor]()
    for step, lr in enumerate((0.1, 0.05, 0.0, 0.2)):
        x = torch.randn(2, 3, n, generator=generator)
        x[..., ::4] = 0
        if n and step:
            x[0, 1, n // 2], x[1, 2, 0] = torch.nan, 3e38
        given: State = state
        before = [leaf.clone() for leaf in _leaves(given)]
        payload, state = codec.encode(x, given, Context(5, step, torch.arange(3), torch.tensor([[0], [1]]), lr))
        assert all(torch.equal(a, b) for a, b in zip(_leaves(given), before, strict=True))
        seen += [payload.valid, *payload.planes.values(), *_leaves(state)]
    return seen


def _bits(x: Tensor) -> Tensor:
    return x.nan_to_num(-1).view(torch.int32) if x.dtype == torch.float32 else x


@pytest.mark.parametrize("n", [0, 1, 7, 63, 64, 65, 1025])
@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_one_pass_gives_the_bits_of_the_parts(codec: Codec, n: int) -> None:
    fused = _run(codec, n)
    with fast_paths.off():
        plain = _run(codec, n)
    for a, b in zip(fused, plain, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(_bits(a), _bits(b))
