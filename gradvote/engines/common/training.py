"""The user's side of an engine: gradients as they are before a vote, and what becomes of `.grad` after it."""

import warnings
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common.clipping import check_max_norm
from gradvote.engines.common.directions import Directions
from gradvote.engines.common.kept import Kept
from gradvote.engines.common.optimizers import Optimizers
from gradvote.engines.common.parameters import Parameters
from gradvote.engines.common.scaling import Scaling, Strangers
from gradvote.engines.common.step_watch import StepWatch
from gradvote.engines.common.trained import Trained


class Training:
    """Parameters, optimizers and scaler of a training loop, and the habits that are looked for in it.

    `again` says how to start anew with other parameters, `advice` what to do instead of several votes for a step.
    """

    def __init__(
        self,
        parameters: Parameters,
        algorithm: Algorithm,
        optimizers: Sequence[Optimizer],
        scaler: GradScaler | None,
        max_norm: float | None,
        again: str,
        advice: str = "",
    ) -> None:
        check_max_norm(max_norm, algorithm)
        self.names, self.params, self.max_norm = parameters.names, parameters.tensors, max_norm
        self.optimizers = Optimizers(self.params, self.names, optimizers)
        self.scaling = Scaling(scaler, optimizers)
        self.trained = Trained(parameters, optimizers, again)
        self.directions = Directions(self.params, self.names, advice)
        self._watch = StepWatch(self.params, self.directions, self.scaling.active)
        self._strangers, self._warned = Strangers(), False

    def give(
        self,
        targets: Mapping[int, Tensor],
        decided: AbstractSet[int],
        scale: float = 1.0,
        skipped: bool = False,
    ) -> None:
        """Make directions, times `scale`, the gradients of the parameters that were `decided`; the others have none.

        Where the scaler shall take no step (`skipped`, or nothing was decided) all is infinite, as after an overflow.
        """
        lost = self._lost(targets, decided, skipped) if self.scaling.divides else frozenset()
        for i in lost:
            targets[i].fill_(torch.inf)
        self.directions.give(targets, decided | lost)
        self._watch.gave(targets, scale)

    def overflowed(self) -> None:
        """Some of this rank's gradients were not finite, and were replaced by a direction.

        A scaler that was not named, and has been asked to `unscale_` before the vote, would skip the step on this rank
        only.
        """
        if not self.scaling.active and self._strangers.forgive(self.optimizers.all) and not self._warned:
            self._warned = True
            warnings.warn(
                "A torch.amp.GradScaler that the vote does not know has found an overflow in this rank's gradients, "
                "and would have skipped the step on this rank only. The vote left them out; all ranks take the step. "
                "Give the scaler, scaler=scaler, so that the scale shrinks where most ranks overflow.",
                stacklevel=4,
            )

    def _lost(self, targets: Mapping[int, Tensor], decided: AbstractSet[int], skipped: bool) -> frozenset[int]:
        """The parameters whose optimizer shall take no step: its scaler needs an overflow to look at."""
        if skipped or not decided:
            return frozenset(targets)
        of_optimizers = [own & targets.keys() for own in self.optimizers.numbers()]
        return frozenset[int]().union(*(own for own in of_optimizers if own.isdisjoint(decided)))


def add(aside: Mapping[int, Kept], targets: Mapping[int, Tensor]) -> None:
    """Add the directions that were set aside to those of the vote that came after."""
    for i, kept in aside.items():
        kept.add_to(targets[i])
