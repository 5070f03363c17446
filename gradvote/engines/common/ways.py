"""How far a worker's own steps led: start − now, for each parameter."""

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradvote.staging import to_host

if TYPE_CHECKING:
    from gradvote.engines.common.start import Pair  # it imports much that simulated workers do not need

MIX = 0.5
"""What a worker keeps of its own parameters, unless it was told otherwise, where a delayed round arrives."""

SPOILT = (
    "The local steps of this round came to numbers that are not finite. Such blocks abstain, the model goes on from "
    "what the others agreed on, and spoilt states of the optimizer that attach(...) was given begin anew (those of "
    "another one stay so: give that one). A smaller inner learning rate, or clipped gradients, may be needed."
)
STILL = (
    "No parameter has moved in the {every} local steps of this round, so this worker abstains. Call optimizer.step() "
    "before each local.step(), with the optimizer that attach(...) was given."
)


class Ways(NamedTuple):
    """start − now of each parameter, None where it has not moved; and the places of those that are not finite."""

    ways: list[Tensor | None]
    spoilt: list[int]


def ways_between(starts: Sequence[Tensor], nows: Sequence[Tensor]) -> Ways:
    """The ways from the starts; a card is asked once."""
    ways = [start.detach() - now.detach() for start, now in zip(starts, nows, strict=True)]
    moved = to_host([(way != 0).any() for way in ways])
    finite = to_host([way.isfinite().all() for way in ways])
    kept = [way if bool(flag) else None for way, flag in zip(ways, moved, strict=True)]
    return Ways(kept, [i for i, flag in enumerate(finite) if not bool(flag)])


@torch.no_grad()
def join(own: Tensor, agreed: Tensor, mix: float) -> bool:
    """own ← mix·own + (1 − mix)·agreed, and agreed where own is not finite; whether that was anywhere.

    What both have alike stays as it is, to the bit.
    """
    finite = own.isfinite()
    own.copy_(torch.where(finite, torch.lerp(own, agreed, 1 - mix), agreed))
    (whole,) = to_host([finite.all()])
    return not bool(whole)


def forget_spoilt(optimizers: Iterable[Optimizer], p: Tensor) -> None:
    """Empty the state of a parameter where it is not finite, as it would stay so for ever."""
    for optimizer in optimizers:
        held = [v for v in optimizer.state.get(p, {}).values() if isinstance(v, Tensor) and v.is_floating_point()]
        if not all(bool(flag) for flag in to_host([v.isfinite().all() for v in held])):
            optimizer.state.pop(p)


class OwnWays:
    """Makes a worker's ways the gradients of the start; what is wrong with them is told once."""

    def __init__(self, optimizers: Sequence[Optimizer], every: int) -> None:
        self._inner, self._every = optimizers, every
        self._told_spoilt = self._told_still = False

    def give(self, pairs: "Sequence[Pair]") -> None:
        """start − now; spoilt states of the optimizers begin anew."""
        ways, spoilt = ways_between([pair.agreed for pair in pairs], [pair.own for pair in pairs])
        for pair, way in zip(pairs, ways, strict=True):
            pair.agreed.grad = way
        if pairs and all(way is None for way in ways) and not self._told_still:
            self._told_still = True
            warnings.warn(STILL.format(every=self._every), stacklevel=4)
        for i in spoilt:
            forget_spoilt(self._inner, pairs[i].key)
        if spoilt and not self._told_spoilt:
            self._told_spoilt = True
            warnings.warn(SPOILT, stacklevel=4)
