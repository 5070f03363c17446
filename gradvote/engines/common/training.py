"""The user's side of an engine: gradients as they are before a vote, and what becomes of `.grad` after it."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common.clipping import check_max_norm
from gradvote.engines.common.directions import Directions
from gradvote.engines.common.in_vain import Dropped, Idle
from gradvote.engines.common.kept import Kept
from gradvote.engines.common.misfits import check_constants, warn_of_differences, warn_of_lost_sizes
from gradvote.engines.common.optimizers import Optimizers
from gradvote.engines.common.parameters import Parameters
from gradvote.engines.common.scaling import Scaling, Strangers
from gradvote.engines.common.step_watch import StepWatch
from gradvote.engines.common.terms import optimizer_terms
from gradvote.engines.common.trained import Newcomers, Trained
from gradvote.staging import CPU


class Training:
    """Parameters, optimizers and scaler of a training loop, and the habits that are looked for in it.

    `again` says how to start anew with other parameters, `advice` what to do instead of several votes for a step;
    `modules` are those that the parameters belong to. `local` are the tensors that gradients and directions are read
    from and given to, where the optimizer's are shards.
    """

    def __init__(
        self,
        parameters: Parameters,
        algorithm: Algorithm,
        optimizers: Sequence[Optimizer],
        scaler: GradScaler | None,
        max_norm: float | None,
        again: str,
        modules: Iterable[nn.Module],
        advice: str = "",
        local: Sequence[Tensor] | None = None,
    ) -> None:
        check_max_norm(max_norm, algorithm)
        inside = [*modules]
        check_constants(inside, algorithm, parameters.tensors)
        self.names, self.max_norm, self._optimized = parameters.names, max_norm, parameters.tensors
        self.params = parameters.tensors if local is None else [*local]
        self.optimizers = Optimizers(self._optimized, self.names, optimizers)
        self.scaling = Scaling(scaler, optimizers)
        self.trained = Trained(parameters, optimizers, again)
        self.directions = Directions(self.params, self.names, advice)
        remembers = bool(algorithm.up.init(torch.zeros(1, 1, dtype=torch.float32, device=CPU)))
        self._dropped = Dropped(self.params, remembers)
        warn_of_lost_sizes(optimizers, _remembers(algorithm), stacklevel=3)
        warn_of_differences(optimizers, algorithm, stacklevel=3)
        newcomers, self._idle = Newcomers(inside, again), Idle()
        known = self.scaling.active
        rated = self.optimizers if _remembers(algorithm) else None
        looks = newcomers, self._dropped, self._idle
        self._watch = StepWatch(self.params, self.directions, known, *looks, self._optimized, rated)
        self._strangers = Strangers()
        self._warned = self._overflowed = False

    def terms(self, compares: bool) -> dict[str, object]:
        """What all workers must have alike of these; optimizers only where parameters are compared, too."""
        own = optimizer_terms(self.optimizers.all, self._optimized) if compares else {}
        return {"scaler": "enabled" if self.scaling.active else "none", **own}

    def give(
        self,
        targets: Mapping[int, Tensor],
        decided: AbstractSet[int],
        scale: float = 1.0,
        skipped: bool = False,
    ) -> None:
        """Make directions, times `scale`, the gradients of the parameters that were `decided`; the others have none.

        Where the scaler shall take no step (`skipped`, or nothing was decided) it finds an overflow.
        """
        self._dropped.gave(() if skipped else decided, self.directions.kept)
        self._idle.gave(bool(decided) and not skipped, skipped or self.scaling.active)
        self.directions.give(targets, frozenset() if skipped else decided, self._filled(decided, skipped))
        self._overflowed = False
        self._watch.gave(targets, scale)

    def overflowed(self) -> None:
        """Some of this rank's gradients were not finite, and were replaced by a direction.

        A scaler that was not named, and has been asked to `unscale_` before the vote, would skip the step on this rank
        only.
        """
        self._overflowed = True
        if not self.scaling.active and self._strangers.forgive(self._optimized):
            self._say(
                "A torch.amp.GradScaler that the vote does not know has found an overflow in this rank's gradients, "
                "and would have skipped the step on this rank only. The vote left them out; all ranks take the step. "
                "Give the scaler, scaler=scaler, so that the scale shrinks where most ranks overflow."
            )

    def _filled(self, decided: AbstractSet[int], skipped: bool) -> dict[int, float]:
        """What a scaler looks at in place of gradients: torch asserts that every optimizer has one.

        Infinity where no step shall be taken, so that the scale shrinks; else a zero for an optimizer none of whose
        parameters was decided. Both are gone before an optimizer steps.
        """
        if skipped or not decided:
            stranger = not self.scaling.active and self._strangers.scale() is not None
            if stranger and self._overflowed:
                self._say(
                    "Nothing was decided, as no rank had a finite gradient: a torch.amp.GradScaler that the vote does "
                    "not know seems to scale the loss, and skips this step. Pass scaler= to attach or Exchange."
                )
            asked = self.scaling.divides or (stranger and self._overflowed)
            return dict.fromkeys(range(len(self.params)), float("inf")) if asked else {}
        if not self.scaling.divides:
            return {}
        return {min(own): 0.0 for own in self.optimizers.numbers() if own and own.isdisjoint(decided)}

    def _say(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(text, stacklevel=5)


def _remembers(algorithm: Algorithm) -> bool:
    """Whether workers or server keep back what is still to be sent."""
    like = torch.zeros(1, 1, dtype=torch.float32, device=CPU)
    return any(codec.unsent(codec.init(like)) is not None for codec in (algorithm.up, algorithm.down))


def add(aside: Mapping[int, Kept], targets: Mapping[int, Tensor]) -> None:
    """Add the directions that were set aside to those of the vote that came after."""
    for i, kept in aside.items():
        kept.add_to(targets[i])
