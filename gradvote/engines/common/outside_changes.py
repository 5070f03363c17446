"""Changes of a model by something else than its optimizers, between the begin of a round and the first step from there.

A checkpoint that is loaded into the model alone would be voted on as if it were this worker's way, and the first vote
would throw the model back to the start, a step aside.
"""

import warnings
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradvote.engines.common.parameter_check import digests_of

LOADED = (
    "The parameter {name!r} was changed after attach(...) and before the first local step, as when a checkpoint is "
    "loaded into the model: the first vote would throw the model back to what it was when it was attached. Load the "
    "model before attaching, or call load_state_dict of the local steps as well, which brings the start."
)
CHANGED = (
    "Something else than its optimizer changed the parameter {name!r} between two rounds (a checkpoint loaded into the "
    "model, weights averaged or bounded), and the vote takes that for a part of this worker's way. With a checkpoint "
    "call load_state_dict of the local steps as well; bound weights before local.step()."
)

FORGOTTEN = (
    "A state of the local steps was loaded, but the parameter {name!r} is not what it was when that state was saved: "
    "the vote would take the difference for this worker's way. Load the model that was saved with it, as well; to "
    "begin from another model, attach to it and load no state."
)
CONVERTED = (
    "The parameter {name!r} is {now} now and was {then} when the local steps were attached. Move and convert the model "
    "first, then attach."
)
EARLY = 4096
"""Coordinates of each parameter by which a model is known again."""


class OutsideChanges:
    """Looks at (name, own, agreed) of each parameter before the first step that an optimizer takes in a round.

    Before the first step of all such a change is refused, as nothing is lost yet; later it is told once.
    """

    def __init__(self, params: Iterable[tuple[str, Tensor, Tensor]], optimizers: Iterable[Optimizer]) -> None:
        self._params = [*params]
        self._begun: list[int] | None = None
        self._expected: list[int] | None = None
        self._stepped = self._told = False
        check = weakref.WeakMethod(self.check)

        def before_step(*_: Any) -> None:
            found = check()
            if found is not None:
                found()

        for optimizer in optimizers:
            optimizer.register_step_pre_hook(before_step)

    def begin(self) -> None:
        """The model is at the start of a round."""
        self._begun = self._versions()

    def digests(self) -> list[int]:
        """What the model is known again by: a digest of the beginning of each parameter."""
        return digests_of([own for _, own, _ in self._params], EARLY)

    def accept(self, expected: Sequence[int] | None = None) -> None:
        """The model may be elsewhere: a state was loaded that says where the round began, and where the model is."""
        self._begun, self._expected = None, None if expected is None else [*expected]

    def check(self) -> None:
        """Before a step.

        Raises:
            ValueError: before the first step of all the model is elsewhere than where its round begins, or than it was
                when the state was saved that was loaded; or it was converted or moved.
        """
        self.check_kinds()
        if self._expected is not None:
            found = next((i for i, own in enumerate(self.digests()) if own != self._expected[i]), None)
            if found is not None:
                raise ValueError(FORGOTTEN.format(name=self._params[found][0]))
            self._expected = None
        if self._begun is None:
            return
        name = None if self._begun == self._versions() else self._elsewhere()
        if name is not None and not self._stepped:
            raise ValueError(LOADED.format(name=name))
        self._begun, self._stepped = None, True
        if name is not None and not self._told:
            self._told = True
            warnings.warn(CHANGED.format(name=name), stacklevel=5)

    def check_kinds(self) -> None:
        """Raise ValueError where a parameter has another type or is elsewhere than what all agreed on."""
        for name, own, agreed in self._params:
            if (own.dtype, own.device) != (agreed.dtype, agreed.device):
                now, then = (f"{p.dtype} on {p.device}" for p in (own, agreed))
                raise ValueError(CONVERTED.format(name=name, now=now, then=then))

    def _elsewhere(self) -> str | None:
        """A parameter that is not at the start; weights may have been taken away and put back for an evaluation."""
        return next((name for name, own, agreed in self._params if not torch.equal(own, agreed)), None)

    def _versions(self) -> list[int]:
        return [own._version for _, own, _ in self._params]
