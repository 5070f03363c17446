"""Votes in vain, told once: directions that nobody applied, and step after step in which nobody votes on anything."""

import warnings
from collections.abc import Collection, Sequence

from torch import Tensor

from gradvote.staging import asked

SAMPLE = 16
"""Coordinates of a parameter by which a change of it is seen, of the kind that leaves its version alone."""
STEPS = 5
"""Steps in a row without a vote after which it is said."""
IDLE = (
    "In {steps} steps running nobody has voted on any parameter: no worker had a finite gradient of any of them, and "
    "the model does not move. Look whether loss.backward() is called, whether the loss is finite, and whether the "
    "model still has the parameters that the vote was given: load_state_dict(assign=True), a parametrization such as "
    "weight_norm, and torch.func.functional_call put others in their place."
)


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


class Idle:
    """Counts steps in which nothing was decided, or in which an optimizer found nothing, and warns once.

    A step that is skipped for an overflow says so by its scale, and does not count.
    """

    def __init__(self) -> None:
        self._count, self._voted, self._told = 0, False, False

    def gave(self, decided: bool, skipped: bool) -> None:
        """A vote has come to something, or to nothing."""
        self._voted = True
        if decided or not skipped:
            self._add(found=decided)

    def stepped(self, found: bool) -> None:
        """An optimizer is about to step, perhaps without any vote; `found`: one of its parameters has a gradient."""
        if not self._voted:
            self._add(found)
        self._voted = False

    def _add(self, found: bool) -> None:
        self._count = 0 if found else self._count + 1
        if self._count == STEPS and not self._told:
            self._told = True
            warnings.warn(IDLE.format(steps=STEPS), stacklevel=6)
