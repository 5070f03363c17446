"""What is trained is fixed when an engine starts; what a user changes afterwards is found before it parts the ranks.

`Trained` looks for parameters that are unfrozen or given to an optimizer, `Newcomers` for those that come into a model.
"""

import warnings
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradvote.engines.common.directions import was_decided
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


class Newcomers:
    """Knows the parameters of some modules at the start, given to the vote or not, and names those that came later.

    A new adapter, a layer, a tensor in another's place. `again` says how to start anew with them.
    """

    def __init__(self, modules: Iterable[nn.Module], again: str) -> None:
        chosen, self._again = [*modules], again
        inside = {id(child) for module in chosen for child in module.children()}
        self._roots = [weakref.ref(module) for module in chosen if id(module) not in inside]
        self._known = {id(p): weakref.ref(p) for module in chosen for p in module.parameters(recurse=False)}
        self._seen: weakref.WeakKeyDictionary[Optimizer, list[int]] = weakref.WeakKeyDictionary()

    def check(self, optimizer: Optimizer) -> None:
        """Look at an optimizer whose parameters have changed, before its step.

        Raises:
            ValueError: it is about to train a parameter that has come into the model since, and that no other vote has
                decided on; the sentence names it.
        """
        params = [p for group in optimizer.param_groups for p in group["params"]]
        ids = [id(p) for p in params]
        if self._seen.get(optimizer) == ids:
            return
        unknown = {id(p) for p in params if not self._knows(p)}
        late = [(name, p) for name, p in self._now() if id(p) in unknown] if unknown else []
        for name, p in late:
            if p.grad is not None and not was_decided(p):
                raise self._refusal(name)
        if not late:
            self._seen[optimizer] = ids

    def check_model(self) -> None:
        """Look at the model itself, where any optimizer may train what has come into it.

        Raises:
            ValueError: there is a parameter that can be trained and was not there; the sentence names it.
        """
        for name, p in self._now():
            if p.requires_grad and not self._knows(p):
                raise self._refusal(name)

    def _refusal(self, name: str) -> ValueError:
        return ValueError(
            f"The parameter {name!r} came into the model after the votes had begun: nobody votes on it, so that the "
            f"ranks would part. What is trained is fixed at the start: {self._again}."
        )

    def _knows(self, p: Tensor) -> bool:
        """By the tensor itself: the number of one that is gone may be given to another."""
        known = self._known.get(id(p))
        return known is not None and known() is p

    def _now(self) -> Iterable[tuple[str, Any]]:
        modules = (module for root in self._roots if (module := root()) is not None)
        return (pair for module in modules for pair in module.named_parameters())


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
