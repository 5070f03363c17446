"""A kernel and its definition side by side: the definition on the CPU, the kernel where it is to be tested."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote.rng import Draw
from tests.kernels.inputs import same
from tests.on_card import DEVICE


def slow(*values: Any) -> Any:
    """Values of a test that takes long where kernels are interpreted."""
    return pytest.param(*values, marks=pytest.mark.slow)


def check(kernel: Callable[..., Any], definition: Callable[..., Any], *args: Any) -> None:
    """Both give the same bits, and what they were given stays as it was."""
    given = there(args)
    before = _copies(given)
    got, expected = _tensors(kernel(*given)), _tensors(definition(*args))
    assert len(got) == len(expected)
    for place, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert same(a.cpu(), b), (place, a.shape, a.dtype, b.shape, b.dtype)
    assert all(same(a, b) for a, b in zip(_copies(given), before, strict=True))


def there(args: Any) -> Any:
    """Arguments with their tensors on `DEVICE`, laid out in memory as they were."""
    if isinstance(args, Draw):
        return replace(args, block=args.block.to(DEVICE), sender=args.sender.to(DEVICE))
    if isinstance(args, tuple):
        moved = [there(arg) for arg in args]
        return type(args)(*moved) if hasattr(args, "_fields") else tuple(moved)
    if not isinstance(args, Tensor) or args.device.type == DEVICE:
        return args
    if not args.numel():
        return args.to(DEVICE)
    storage = torch.empty(0, dtype=args.dtype).set_(args.untyped_storage()).to(DEVICE)
    return storage.as_strided(args.shape, args.stride(), args.storage_offset())


def _tensors(results: Any) -> list[Tensor]:
    if isinstance(results, Tensor):
        return [results]
    return [tensor for result in results or () for tensor in _tensors(result)]


def _copies(args: Any) -> list[Tensor]:
    if isinstance(args, Tensor):
        return [args.cpu().clone()]
    return [copy for arg in args for copy in _copies(arg)] if isinstance(args, tuple) else []
