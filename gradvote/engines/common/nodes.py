"""Where autograd accumulates into parameters: somebody is told before and after it does."""

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

Told = Callable[[int], None]
"""A method that is given a parameter's number."""


class Nodes:
    """Calls `before` and `after` around each accumulation into one of some parameters, as long as their object lives.

    The hook before it is one of the node: unlike one of the tensor it is silent under torch.autograd.grad. It is lost
    with the node, which is kept alive here; a parameter that is converted or moved (`model.to`) has another one.
    """

    def __init__(self, params: Sequence[Tensor], before: Told, after: Told) -> None:
        self._params, self._before = params, weakref.WeakMethod(before)
        self._kinds = [_kind(p) for p in params]
        self._nodes = {i: _node_of(p) for i, p in enumerate(params) if p.is_leaf}
        for i in self._nodes:
            self._watch(i)
            params[i].register_post_accumulate_grad_hook(partial(_tell, weakref.WeakMethod(after), i))

    def follow(self) -> None:
        """Look at parameters again that were converted or moved."""
        for i, p in enumerate(self._params):
            if i in self._nodes and _kind(p) != self._kinds[i]:
                self._kinds[i], self._nodes[i] = _kind(p), _node_of(p)
                self._watch(i)

    def out_of_sight(self, i: int) -> bool:
        """Whether parameter i was converted or moved since it is looked at; back to what it was, perhaps."""
        return i in self._nodes and _node_of(self._params[i]) is not self._nodes[i]

    def _watch(self, i: int) -> None:
        self._nodes[i].register_prehook(partial(_tell, self._before, i))


def _kind(p: Tensor) -> tuple[torch.dtype, torch.device]:
    return p.dtype, p.device


def _node_of(p: Tensor) -> Any:
    with torch.inference_mode(False), torch.enable_grad():
        return get_gradient_edge(p).node


def _tell(method: "weakref.WeakMethod[Told]", i: int, *_: Any) -> None:
    found = method()
    if found is not None:
        found(i)
