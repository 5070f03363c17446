"""Parameters that come into a model after the votes have begun: a new adapter, a layer, a tensor in another's place."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradvote.engines.common.directions import was_decided


class Newcomers:
    """Knows the parameters of some modules at the start, given to the vote or not, and names those that came later.

    `again` says how to start anew with them.
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
