"""Runs that do not learn, in silence: step after step in which nobody votes on anything."""

import warnings

STEPS = 5
"""Steps in a row after which it is said."""
IDLE = (
    "In {steps} steps running nobody has voted on any parameter: no worker had a finite gradient of any of them, and "
    "the model does not move. Look whether loss.backward() is called, whether the loss is finite, and whether the "
    "model still has the parameters that the vote was given: load_state_dict(assign=True), a parametrization such as "
    "weight_norm, and torch.func.functional_call put others in their place."
)


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
