"""What a model has beside what is voted on: buffers and frozen parameters, which stay each worker's own."""

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gradvote.engines.common.outside_changes import differ
from gradvote.engines.common.start import Pair
from gradvote.staging import to_host

FROZEN = (
    "The script changes the frozen parameter {name!r} (a teacher or target network, weights that are averaged or "
    "loaded): nobody votes on it, each worker keeps its own, and the workers' models differ there unless all set it "
    "alike. Set it from what all agreed on, where local.step() gives True and before the optimizer's next step."
)


class Beside:
    """Brings them to the start, for workers that join, and back to where a round began.

    `frozen` are the parameters that were frozen at the start; of one that is frozen later, others may train on. Buffers
    are looked up by name: a forward pass may put another tensor in the place of one.
    """

    def __init__(self, model: nn.Module, start: nn.Module, frozen: Sequence[Pair]) -> None:
        self._model, self._frozen, self._told = model, frozen, False
        self._copies = dict(start.named_buffers())

    @property
    def names(self) -> frozenset[str]:
        """Of the frozen ones."""
        return frozenset(pair.name for pair in self._frozen)

    @torch.no_grad()
    def keep(self) -> None:
        """The start has what this worker has now. Of a parameter that was changed within the round it is told."""
        changed = self._changed()
        if changed and not self._told:
            self._told = True
            warnings.warn(FROZEN.format(name=changed[0].name), stacklevel=5)
        self._accept(changed)
        for own, agreed in self._buffers():
            agreed.copy_(own)

    @torch.no_grad()
    def begin(self) -> None:
        """A round's first step: what was set since the last vote is what the round goes on with."""
        self._accept(self._changed())

    @torch.no_grad()
    def take(self) -> None:
        """This worker has what the start has."""
        for pair in self._frozen:
            pair.own.copy_(pair.agreed)
        for own, agreed in self._buffers():
            own.copy_(agreed)

    def _changed(self) -> list[Pair]:
        """Frozen parameters that are not as at the start: one wait for a card, whatever their number."""
        flags = to_host([differ(pair.own, pair.agreed) for pair in self._frozen])
        return [pair for pair, flag in zip(self._frozen, flags, strict=True) if bool(flag)]

    def _accept(self, changed: Sequence[Pair]) -> None:
        for pair in changed:
            pair.agreed.data.copy_(pair.own)  # its version would say that the engine has moved the start

    def _buffers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Own and agreed, of all that have still the size that they had at the start."""
        for name, own in self._model.named_buffers():
            agreed = self._copies.get(name)
            if agreed is not None and (own.shape, own.dtype) == (agreed.shape, agreed.dtype):
                yield own, agreed
