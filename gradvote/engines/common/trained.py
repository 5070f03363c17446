"""What is trained is fixed when an engine starts; what a user changes afterwards is found before it parts the ranks."""

import warnings
import weakref
from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.optim import Optimizer

from gradvote.engines.common.parameters import Parameters

ALONE = (
    "The optimizer trains parameters on which nobody votes ({number}, the first of shape {shape}): there each rank "
    "goes its own way, and the ranks' models part. Give them to the vote as well (a head, a loss with weights of its "
    "own); if each rank is meant to have its own ones, ignore this warning."
)
_voted: dict[int, weakref.ref[Tensor]] = {}
"""All parameters of this process that some engine votes on: two engines may share one optimizer."""


class Trained:
    """Looks for parameters that were unfrozen, or given to an optimizer, after the start.

    What an optimizer had beside the exchanged parameters at the start stays so, and is told once.
    """

    def __init__(self, parameters: Parameters, optimizers: Sequence[Optimizer], again: str) -> None:
        self._frozen, self._optimizers, self._again = parameters.frozen, tuple(optimizers), again
        self._known = {id(p) for p in parameters.tensors}
        self._names = {id(p): name for name, p in parameters.frozen}
        for i, p in enumerate(p for optimizer in self._optimizers for p in _params(optimizer)):
            if p.requires_grad:
                self._known.add(id(p))
            elif id(p) not in self._names:
                self._frozen = [*self._frozen, (f"{i} of the optimizer", p)]
        self._count, self._told = self._num_params(), False
        _vote_on(parameters.tensors)

    def check(self) -> None:
        """Raise ValueError that names a parameter which is trained now and was not at the start."""
        if not self._told:
            self._told = True
            self._tell_of_others()
        for name, p in self._frozen:
            if p.requires_grad and id(p) not in self._known:
                raise ValueError(self._text(f"The parameter {name!r} was frozen when the votes began and is not now"))
        if self._num_params() != self._count:
            self._check_optimizers()

    def _check_optimizers(self) -> None:
        for optimizer in self._optimizers:
            for i, p in enumerate(_params(optimizer)):
                if p.requires_grad and id(p) not in self._known:
                    name = self._names.get(id(p), f"{i} of the optimizer, of shape {tuple(p.shape)},")
                    raise ValueError(self._text(f"The parameter {name} was added after the votes had begun"))
        self._count = self._num_params()

    def _tell_of_others(self) -> None:
        own = [p for optimizer in self._optimizers for p in _params(optimizer) if p.requires_grad and not _is_voted(p)]
        if own:
            warnings.warn(ALONE.format(number=len(own), shape=tuple(own[0].shape)), stacklevel=4)

    def _num_params(self) -> int:
        return sum(len(group["params"]) for optimizer in self._optimizers for group in optimizer.param_groups)

    def _text(self, what: str) -> str:
        return (
            f"{what}: nobody would vote on it, so that the ranks would part. What is trained is fixed at the start: "
            f"{self._again}, or have it trained (requires_grad, in the optimizer) from the start; a parameter without "
            "a gradient only abstains."
        )


def _params(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _vote_on(params: Iterable[Tensor]) -> None:
    for p in params:
        _voted[id(p)] = weakref.ref(p)
    for key in [key for key, own in _voted.items() if own() is None]:
        del _voted[key]


def _is_voted(p: Tensor) -> bool:
    known = _voted.get(id(p))
    return known is not None and known() is p
