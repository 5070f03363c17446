"""Tensors that stand for those of a card, without one: what waits for a card, or takes numbers from it, raises.

A `Distant` holds its numbers in a tensor of the CPU and says that it is on the device "meta". Within `a_card`, what is
made on "meta" is distant too. Numbers pass between the host and such a card in `gradvote.staging` only; elsewhere each
passage, each question (`bool`, `item`, `nonzero`) and each operation on tensors of both sides is an error.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from gradvote.kernels import reference
from gradvote.kernels.roots import sqrt

CARD, CPU = torch.device("meta"), torch.device("cpu")
aten = torch.ops.aten
ASKING = {
    aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default,
    aten.is_nonzero.default, aten.repeat_interleave.Tensor, aten._unique2.default,
}  # fmt: skip
INDEXING = {aten.index.Tensor, aten.index_put_.default}
ROUNDED = {aten.sqrt.default: sqrt}
"""What a card rounds to nearest, and PyTorch on a processor does not."""
TAKING = {Tensor.numpy, Tensor.tolist, Tensor.item, Tensor.__array__, Tensor.cpu}
PLACES = {Tensor.data_ptr, Tensor.untyped_storage}
MAKING = {torch.tensor, torch.as_tensor}


class Waits(AssertionError):
    """Something would have waited for the card."""


class Distant(Tensor):
    """A tensor of the card."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Distant":
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=int(held.storage_offset()), dtype=held.dtype,
            device=CARD, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in TAKING:
            raise Waits(f"{func} takes numbers from the card.")
        if func in PLACES:
            return func(args[0].held)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"Distant({tuple(self.shape)}, {self.dtype})"


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Numbers(TorchFunctionMode):
    """`torch.tensor` makes its numbers below the other mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in MAKING and _is_card(kwargs.get("device")) and not isinstance(args[0], Distant):
            _must_not_be_late(func)
            return Distant(func(*args, **{**kwargs, "device": CPU}))
        return func(*args, **kwargs)


_late = False


@contextmanager
def a_card() -> Iterator[None]:
    """Within, there is a card."""
    with _Numbers(), _Operations():
        yield


@contextmanager
def warm() -> Iterator[None]:
    """Within, constants are on the card already: to make one there is to wait."""
    global _late  # noqa: PLW0603  # a test is one thread
    _late = True
    try:
        yield
    finally:
        _late = False


@contextmanager
def fast_draws() -> Iterator[None]:
    """Within, Philox, a hundred operations on counters, is one: these tests are not about it."""
    philox = reference.philox

    def at_once(counter: Any, key: int) -> Any:
        found = philox(held(counter), key)
        return tuple(map(Distant, found)) if any(isinstance(c, Distant) for c in counter) else found

    with mock.patch.object(reference, "philox", at_once):
        yield


def distant(x: Any) -> Any:
    """Tensors, all through a state, on the card."""
    return tree_map(lambda t: Distant(t.clone()) if isinstance(t, Tensor) else t, x)


def held(x: Any) -> Any:
    """Tensors, all through a state, as the test sees them."""
    return tree_map(lambda t: t.held if isinstance(t, Distant) else t, x)


def _is_card(device: Any) -> bool:
    return device is not None and torch.device(device) == CARD


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    tensors: list[Tensor] = [x for x in _leaves((*args, *kwargs.values())) if isinstance(x, Tensor)]
    far = {id(x.held): x for x in tensors if isinstance(x, Distant)}
    near = [x for x in tensors if not isinstance(x, Distant)]
    device = kwargs.get("device")
    goes_far = bool(far) if device is None else _is_card(device)
    _check(func, args, far, near, goes_far)
    if goes_far and device is not None:
        kwargs = {**kwargs, "device": CPU}
    func = ROUNDED.get(func, func)
    found = func(*_held(args), **{key: _held(value) for key, value in kwargs.items()})
    if func is aten._to_copy.default and goes_far != bool(far):
        found = found.clone()
    return _back(found, far, goes_far)


def _check(func: Any, args: Any, far: Any, near: Sequence[Tensor], goes_far: bool) -> None:
    if far and func in ASKING:
        raise Waits(f"{func} waits for the card.")
    if (func is aten._to_copy.default and goes_far != bool(far)) or (
        func is aten.copy_.default and far and near and (isinstance(args[1], Distant) or near[0].dim())
    ):
        _must_be_staged(func)
    elif far and any(x.dim() for x in near):
        raise Waits(f"{func} is given tensors of the card and of the host.")
    elif func in INDEXING and far and any(i is not None and i.dtype == torch.bool for i in args[1]):
        raise Waits(f"{func} by flags waits for the card.")


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _held(value: Any) -> Any:
    if isinstance(value, Distant):
        return value.held
    return type(value)(map(_held, value)) if type(value) in (list, tuple) else value


def _back(found: Any, far: Any, goes_far: bool) -> Any:
    if isinstance(found, Tensor):
        return far[id(found)] if id(found) in far else Distant(found) if goes_far else found
    return type(found)(_back(x, far, goes_far) for x in found) if type(found) in (list, tuple) else found


def _must_be_staged(func: Any) -> None:
    if not _is_within("staging.py"):
        raise Waits(f"{func} passes numbers between the host and the card outside of gradvote.staging.")


def _must_not_be_late(func: Any) -> None:
    """The definitions of kernels may: a card has kernels of its own, which take numbers as arguments."""
    if _late and not _is_within("reference.py"):
        raise Waits(f"{func} makes a constant on the card in every step.")


def _is_within(file: str) -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None and Path(frame.f_code.co_filename).name != file:
        frame = frame.f_back
    return frame is not None
