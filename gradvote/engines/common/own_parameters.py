"""A worker's own parameters, as rounds move them, with the copies of them that its optimizers keep."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradvote.engines.common.start import Pair
from gradvote.engines.common.ways import forget_spoilt, join
from gradvote.staging import to_host


class OwnParameters:
    """Moves them to what was agreed on, or a part of the way.

    An optimizer with master copies in float32, or with slow weights, writes them back in its next step, and what was
    agreed on would be gone, in silence. So a state that is the parameter itself, rounded to its type, goes with it.
    """

    def __init__(self, pairs: Sequence[Pair], optimizers: Sequence[Optimizer]) -> None:
        self._pairs, self._inner = pairs, optimizers

    @torch.no_grad()
    def take(self) -> None:
        """They are what was agreed on, which waits for the next ways."""
        with self._followed():
            for pair in self._pairs:
                pair.own.copy_(pair.agreed)
                pair.agreed.grad = None

    @torch.no_grad()
    def join(self, mix: float) -> None:
        """They keep `mix` of their own."""
        with self._followed():
            for pair in self._pairs:
                if join(pair.own, pair.agreed, mix):
                    forget_spoilt(self._inner, pair.key)

    @contextmanager
    def _followed(self) -> Iterator[None]:
        held = [(value, pair.key) for pair in self._pairs for value in self._states(pair.key)]
        alike = to_host([(value.to(key.device, key.dtype) == key).all() for value, key in held])
        empty = to_host([(key == 0).all() for _, key in held])  # so are states that have not begun
        yield
        for (value, key), same, zero in zip(held, alike, empty, strict=True):
            if bool(same) and not bool(zero):
                value.copy_(key)

    def _states(self, key: Tensor) -> Iterator[Tensor]:
        """Those that have a number for each coordinate, as tensors of the parameter's kind: not packed in 8 bits."""
        for value in (v for optimizer in self._inner for v in optimizer.state.get(key, {}).values()):
            numbers = isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0
            if numbers and value.shape == key.shape and type(value.data) is type(key.data):
                yield value
