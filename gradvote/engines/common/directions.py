"""Gradients and directions share `.grad`: a gradient is never accumulated onto a direction, and no decision is none.

After a vote `.grad` holds the direction, with a mark on the tensor itself, so that `zero_grad` takes both away. When
autograd is about to accumulate onto it (a second backward pass, a forgotten `zero_grad`), the direction is set aside
first: the next vote is on the new gradient alone, and its direction is added to the old one. That is what averaging
gives, which is linear, and it needs no subtraction: (1 + 3e-8) − 1 is 0 in float32.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import count
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from gradvote.engines.common.flat_buffer import gradient_dtype
from gradvote.engines.common.kept import Kept
from gradvote.engines.common.nodes import Nodes
from gradvote.staging import asked

MARK = "_gradvote_mark"
"""The attribute of a gradient's tensor under which its mark stands."""
SAMPLE = 16
"""Coordinates by which a direction is known again: what is written through `.data` leaves the version alone."""
_numbers = count(1)


class Mark(NamedTuple):
    """The tensor's version when it was marked; whether it is a direction; a direction that belongs on top of it; whose.

    One that `fills_in` is neither: a GradScaler needs something to look at, and nobody shall apply it.
    """

    version: int
    is_direction: bool
    aside: Kept | None = None
    fills_in: bool = False
    by: int = 0


class Directions:
    """The gradients of some parameters, by number, and the directions that they become.

    `advice` says what to do instead of two votes for one step; it is given once, as a warning, if there is any.
    """

    def __init__(self, params: Sequence[Tensor], names: Sequence[str], advice: str) -> None:
        self._params, self.names, self._advice = params, names, advice
        self._fresh: set[int] = set()
        self._voted: set[int] = set()
        self._held: dict[int, Kept] = {}
        self._aside: dict[int, Kept] = {}
        self._samples: dict[int, Tensor] = {}
        self._zeroed: set[int] = set()
        self._changed: set[int] = set()
        self.kept = False
        """Whether the next directions have something of the last ones added to them."""
        self.views = False
        """Whether gradients are views of buffers that the next backward pass overwrites."""
        self._given = self._warned = False
        self._number, self.nodes = next(_numbers), Nodes(params, self.before, self.after)
        self._adopt()

    def collect(self) -> tuple[dict[int, Tensor | None], dict[int, Kept]]:
        """The gradient of each parameter, None where there is no new one, and the directions to be added to the next.

        Raises:
            RuntimeError: a direction was changed in place, so that what is new in it cannot be known; or another vote
                has given it.
        """
        self.nodes.follow()
        self._hold()
        gradients: dict[int, Tensor | None] = {}
        aside: dict[int, Kept] = {}
        for i, p in enumerate(self._params):
            gradients[i], kept = self._split(i, p.grad)
            if kept is not None:
                aside[i] = kept
        self._warn(aside)
        return gradients, aside

    def take(self, numbers: Iterable[int]) -> tuple[frozenset[int], dict[int, Kept]]:
        """Of these parameters, those that have a new gradient since they were last taken, and what `collect` gives."""
        chosen = [*numbers]
        fresh = frozenset(i for i in chosen if i in self._fresh and self._params[i].grad is not None)
        aside = {i: self._aside[i] for i in fresh & self._aside.keys()}
        for i in self._held.keys() & (set(chosen) - fresh):
            mark = _mark_of(self._params[i].grad)
            aside |= {i: self._held[i]} if mark is not None and mark.is_direction else {}
        for i in chosen:
            self._aside.pop(i, None)
        self._fresh.difference_update(chosen)
        self._warn(aside)
        return fresh, aside

    def give(
        self,
        targets: Mapping[int, Tensor | None],
        decided: AbstractSet[int],
        filled: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        """Make `targets` the gradients; a parameter on which nobody voted has none, so that decay leaves it alone.

        Those in `filled` are filled with a number for a GradScaler to look at, until an optimizer is about to step.
        """
        self._samples = {}
        for i, target in targets.items():
            self._params[i].grad = given = target if i in decided else None
            if given is not None:
                setattr(given, MARK, Mark(given._version, True, by=self._number))
                self._samples[i] = _sample(given).clone()
        for i, value in filled.items():
            p = self._params[i]
            p.grad = given = torch.full_like(p, value, dtype=gradient_dtype(p))
            setattr(given, MARK, Mark(given._version, False, fills_in=True))
        self._fresh.difference_update(targets)
        self._voted.update(targets)
        self._held, self._aside, self._zeroed, self._changed, self._given = {}, {}, set(), set(), True
        self.kept = False

    def unfill(self, numbers: Iterable[int]) -> None:
        """Take away what only fills in."""
        for i in numbers:
            mark: Mark | None = getattr(self._params[i].grad, MARK, None)
            if mark is not None and mark.fills_in:
                self._params[i].grad = None

    def marked(self) -> list[int]:
        """The parameters whose gradient holds a direction."""
        return [i for i, p in enumerate(self._params) if holds_direction(p)]

    def mark_again(self, numbers: Iterable[int]) -> None:
        """Somebody has moved these directions to other tensors."""
        for i in numbers:
            gradient = self._params[i].grad
            if gradient is not None and not hasattr(gradient, MARK):
                setattr(gradient, MARK, Mark(gradient._version, True, by=self._number))

    def unvoted(self, numbers: AbstractSet[int]) -> int | None:
        """One of these parameters whose gradient was computed here and not voted on.

        Autograd has accumulated it since the last vote; or there was no vote since the last step (`stepped`), and this
        is no direction: it was written by hand, where no hook sees it.
        """
        own = self._fresh | (numbers - self._voted)
        alone = (i for i in sorted(own & numbers) if not holds_direction(self._params[i]))
        return next((i for i in alone if (g := self._params[i].grad) is not None and asked(g.any())), None)

    def are_anothers(self, numbers: Iterable[int]) -> bool:
        """Whether another vote, attached later to the same parameters, has decided the gradients of now."""
        marks = (getattr(self._params[i].grad, MARK, None) for i in numbers)
        return next((mark.by != self._number for mark in marks if mark is not None and mark.is_direction), False)

    def stepped(self, numbers: AbstractSet[int]) -> None:
        """An optimizer is about to apply what these parameters have."""
        self._voted.difference_update(numbers)

    def before(self, i: int) -> None:
        """Autograd is about to accumulate into parameter i."""
        self._hold()
        p, held = self._params[i], self._held.pop(i, None)
        mark = _mark_of(p.grad)
        aside = None if mark is None else held if mark.is_direction else mark.aside
        if aside is held and held is not None:
            p.grad = None
        self._aside.pop(i, None)
        if aside is not None:
            self._aside[i] = aside

    def after(self, i: int) -> None:
        """Autograd has accumulated into parameter i."""
        self._fresh.add(i)
        gradient, aside = self._params[i].grad, self._aside.get(i)
        if aside is not None and gradient is not None:
            setattr(gradient, MARK, Mark(gradient._version, False, aside))

    def untouched(self, numbers: Iterable[int]) -> None:
        """`before` was called for these parameters, but nothing was accumulated: the direction is back in its place."""
        for i in set(numbers) & self._aside.keys() - self._fresh:
            self._held[i] = kept = self._aside.pop(i)
            self._params[i].grad = given = torch.zeros_like(self._params[i], dtype=gradient_dtype(self._params[i]))
            kept.add_to(given)
            setattr(given, MARK, Mark(given._version, True, by=self._number))

    def _adopt(self) -> None:
        """Directions of a vote that was attached before this one are kept apart from gradients, too."""
        for p in self._params:
            mark: Mark | None = getattr(p.grad, MARK, None) if p.is_leaf else None
            if mark is not None:
                setattr(p.grad, MARK, mark._replace(by=self._number))
                self._given = True

    def _hold(self) -> None:
        """Keep all directions that there are, before the first gradient after a vote is written.

        All at once: DDP's gradients may be views of one buffer, which share a version, and are overwritten with it.
        """
        if not self._given:
            return
        self._given = False
        self.unfill(range(len(self._params)))
        for i, p in enumerate(self._params):
            mark: Mark | None = getattr(p.grad, MARK, None)
            if p.grad is None or mark is None or not mark.is_direction:
                continue
            sample = self._samples.get(i)
            same = p.grad._version == mark.version and (sample is None or _alike(_sample(p.grad), sample))
            tells = sample is None or asked(sample.any())  # of zeros nobody knows whether they are what was given
            if not (same and tells) and not asked(p.grad.any()):
                delattr(p.grad, MARK)
                self._zeroed.add(i)
                continue
            self._held[i] = Kept(p.grad, copy=self.views)
            if not same:
                self._changed.add(i)

    def _split(self, i: int, gradient: Tensor | None) -> tuple[Tensor | None, Kept | None]:
        """What is a gradient in this, and what is a direction."""
        mark = _mark_of(gradient)
        if mark is not None and mark.is_direction and mark.by != self._number:
            raise RuntimeError(
                f"The gradient of {self.names[i]!r} is what another vote has decided: two votes were attached to this "
                "parameter (two of Exchange, or one beside gradvote.ddp.attach), and a step has one. Leave one of them "
                "out. To vote once more on a direction, in a group and then between groups, give .grad a new tensor."
            )
        if mark is not None and mark.is_direction and i in self._changed:
            raise RuntimeError(
                f"The gradient of {self.names[i]!r} holds the last direction and was changed in place since (clipped, "
                "rescaled, added to or overwritten), so what is new in it cannot be known. Call optimizer.zero_grad() "
                "before the next backward pass, or give .grad a new tensor."
            )
        if mark is not None and mark.is_direction:
            return None, self._held.get(i)
        left = gradient is not None and i in self._zeroed and i not in self._fresh and not asked(gradient.any())
        return None if left else gradient, None if mark is None else mark.aside

    def _warn(self, aside: Mapping[int, Kept]) -> None:
        self.kept = self.kept or bool(aside)
        if aside and self._advice and not self._warned:
            self._warned = True
            warnings.warn(
                "Several votes for one step: .grad still held the direction of the last one, and the directions are "
                f"added up. {self._advice} Each vote costs its bytes and its time, and signs add up to a longer step.",
                stacklevel=4,
            )


def holds_direction(p: Tensor) -> bool:
    """Whether the gradient of a parameter is a direction that nobody has changed."""
    mark: Mark | None = getattr(p.grad, MARK, None)
    return mark is not None and p.grad is not None and mark.is_direction and p.grad._version == mark.version


def was_decided(p: Tensor) -> bool:
    """Whether a vote has given a parameter its gradient, whatever somebody did to it since (a clipping)."""
    mark: Mark | None = getattr(p.grad, MARK, None)
    return mark is not None and mark.is_direction


def _sample(gradient: Tensor) -> Tensor:
    """The first coordinates of a gradient (its first row), as a view."""
    flat = gradient.detach()
    return flat.reshape(1) if not flat.dim() else flat[(0,) * (flat.dim() - 1)][:SAMPLE] if flat.numel() else flat


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and asked((a == b).all())


def _mark_of(gradient: Tensor | None) -> Mark | None:
    """The mark of a gradient; `zero_grad(set_to_none=False)` takes it away."""
    mark: Mark | None = getattr(gradient, MARK, None)
    if gradient is not None and mark is not None and gradient._version != mark.version and not asked(gradient.any()):
        delattr(gradient, MARK)
        return None
    return mark
