"""Workers that come later bring schedulers that begin anew: whose learning rate was not the one that was taken."""

import warnings
from collections.abc import Sequence

from torch import Tensor

SHARE = 0.1
"""By how much of the larger one rates may differ: a scheduler that is a step behind is no news."""
APART = (
    "This worker's learning rate is {own:g}, but the lower median of those that voted, {agreed:g}, is taken by all. "
    "A worker that came later may have a scheduler that begins anew. Derive the rate from the step that all are at; "
    "under torchft the scheduler can travel, too: "
    "manager.register_state_dict_fn('scheduler', scheduler.load_state_dict, scheduler.state_dict)."
)


class RatesApart:
    """Warns once."""

    def __init__(self) -> None:
        self._told = False

    def look(self, own: Sequence[float | Tensor], agreed: Sequence[float]) -> None:
        """The rates of this worker's groups, and those that all take."""
        for mine, theirs in zip(map(float, own), agreed, strict=True):
            if not self._told and not abs(mine - theirs) <= SHARE * max(abs(mine), theirs):
                self._told = True
                warnings.warn(APART.format(own=mine, agreed=theirs), stacklevel=6)
