"""What a model has beside what is voted on: buffers and frozen parameters, which stay each worker's own."""

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gradvote.engines.common.outside_changes import differ
from gradvote.engines.common.start import Pair
from gradvote.staging import asked

FROZEN = (
    "The script changes the frozen parameter {name!r} (a teacher or target network, weights that are averaged or "
    "loaded): nobody votes on it, each worker keeps its own, and the workers' models differ there unless all set it "
    "alike. Set it from what all agreed on, where local.step() gives True and before the next step."
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
        """The start has what this worker has now."""
        changed = next((pair.name for pair in self._frozen if asked(differ(pair.own, pair.agreed))), None)
        if changed is not None and not self._told:
            self._told = True
            warnings.warn(FROZEN.format(name=changed), stacklevel=5)
        for own, agreed in self._pairs():
            agreed.copy_(own)

    @torch.no_grad()
    def take(self) -> None:
        """This worker has what the start has."""
        for own, agreed in self._pairs():
            own.copy_(agreed)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Own and agreed, of all that have still the size that they had at the start."""
        yield from ((pair.own, pair.agreed) for pair in self._frozen)
        for name, own in self._model.named_buffers():
            agreed = self._copies.get(name)
            if agreed is not None and (own.shape, own.dtype) == (agreed.shape, agreed.dtype):
                yield own, agreed
