"""Votes whose directions nobody applied: a GAN's generator step, whose backward pass runs through the discriminator."""

import warnings
from collections.abc import Collection, Sequence

from torch import Tensor

from gradvote.staging import asked

SAMPLE = 16
"""Coordinates of a parameter by which a change of it is seen, of the kind that leaves its version alone."""


class Dropped:
    """Says once that a vote's directions are gone, and no optimizer has stepped, when the next vote is given.

    They may have been used all the same: then a parameter has changed (updates by hand, the first step of SAM), or
    somebody has read them (directions added up by hand), which nobody can see. So it is a warning, no more.
    """

    def __init__(self, params: Sequence[Tensor], has_state: bool) -> None:
        self._params, self._has_state = params, has_state
        self._waiting: tuple[int, int, Tensor] | None = None
        self._warned = False

    def gave(self, decided: Collection[int], kept: bool) -> None:
        """Another vote was given, on these parameters; `kept`: what was left of the last one is part of it."""
        if self._waiting is not None and not kept and not self._used(*self._waiting) and not self._warned:
            self._warned = True
            momenta = ", and momenta and memories have taken it in" if self._has_state else ""
            warnings.warn(
                "The directions of a vote were gone before any optimizer had stepped, as when a GAN's generator has "
                f"its backward pass through a discriminator that votes. Such a vote costs its bytes{momenta}. If "
                "nobody used it, keep that pass from voting: forward and backward inside ddp.no_sync(), or "
                "ddp.module(...) in place of ddp(...).",
                stacklevel=5,
            )
        number = min((i for i in decided if self._params[i].numel()), default=None)
        self._waiting = None if number is None else (number, self._params[number]._version, self._sample(number))

    def stepped(self) -> None:
        """An optimizer with some of the parameters is about to step."""
        self._waiting = None

    def _used(self, number: int, version: int, sample: Tensor) -> bool:
        p = self._params[number]
        return p._version != version or not asked((self._sample(number) == sample).all())

    def _sample(self, number: int) -> Tensor:
        return self._params[number].detach().reshape(-1)[:SAMPLE].clone()
