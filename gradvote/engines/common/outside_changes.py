"""Changes of a model by something else than its optimizers, between the begin of a round and the first step from there.

A checkpoint that is loaded into the model alone would be voted on as if it were this worker's way, and the first vote
would throw the model back to the start, a step aside.
"""

import warnings
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from gradvote.engines.common.parameter_check import digests_of
from gradvote.staging import to_host

LOADED = (
    "The parameter {name!r} was changed after attach(...) and before the first local step, as when a checkpoint is "
    "loaded into the model: the first vote would throw the model back to what it was when it was attached. Load the "
    "model before attaching, or call load_state_dict of the local steps as well, which brings the start. Where another "
    "optimizer has stepped on it, give attach(...) all of them: [first, second]."
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

    Before the first step of all such a change is refused, as nothing is lost yet; later it is told once. Values are
    looked at, not versions: what is written through `.data`, or to a sharded parameter, leaves the version alone.
    Those in `apart`, by name, may change: nobody votes on them. `begins` is called when a round's first step comes.
    """

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor, Tensor]],
        optimizers: Iterable[Optimizer],
        apart: Container[str] = frozenset(),
        begins: Callable[[], None] = lambda: None,
    ) -> None:
        self._params, self._apart, self._begins = [*params], apart, begins
        self._begun = False
        self._expected: list[int] | None = None
        self._stepped = self._told = False
        check = weakref.WeakMethod(self.check)

        def before_step(optimizer: Optimizer, *_: Any) -> None:
            found = check()
            if found is not None:
                found(optimizer)

        for optimizer in optimizers:
            optimizer.register_step_pre_hook(before_step)

    def begin(self) -> None:
        """The model is at the start of a round."""
        self._begun = True

    def digests(self) -> list[int]:
        """What the model is known again by: a digest of the beginning of each parameter."""
        return digests_of([own for _, own, _ in self._params], EARLY)

    def accept(self, expected: Sequence[int] | None = None) -> None:
        """The model may be elsewhere: a state was loaded that says where the round began, and where the model is."""
        self._begun, self._expected = False, None if expected is None else [*expected]

    def check(self, optimizer: Optimizer) -> None:
        """Before a step of one of them.

        Raises:
            ValueError: before the first step of all the model is elsewhere than where its round begins, or than it was
                when the state was saved that was loaded; or it was converted or moved.
        """
        self.check_kinds()
        if (self._expected is None and not self._begun) or not _moves(optimizer):
            return
        if self._expected is not None:
            found = next((i for i, own in enumerate(self.digests()) if own != self._expected[i]), None)
            if found is not None:
                raise ValueError(FORGOTTEN.format(name=self._params[found][0]))
            self._expected = None
        if not self._begun:
            return
        name = self._elsewhere()
        if name is not None and not self._stepped:
            raise ValueError(LOADED.format(name=name))
        self._begun, self._stepped = False, True
        self._begins()
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
        voted = [each for each in self._params if each[0] not in self._apart]
        flags = to_host([differ(own, agreed) for _, own, agreed in voted])
        return next((name for (name, *_), flag in zip(voted, flags, strict=True) if bool(flag)), None)


def _moves(optimizer: Optimizer) -> bool:
    """Whether a step is one: torch's get_optimizer_state_dict takes one at rate 0, so that there are states to load."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    return any(rate is None or float(rate) != 0 for rate in rates)


def differ(a: Tensor, b: Tensor) -> Tensor:
    """Whether two tensors do anywhere; what is not a number is like itself."""
    return ((a != b) & ~(a.isnan() & b.isnan())).any()
