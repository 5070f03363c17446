"""The start of a round: a copy of the parameters that all workers have alike, and the outer optimizer on it.

`Agreed` shows it in place of the parameters of a worker that is ahead of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradvote.engines.common.arguments import check_steps_alone
from gradvote.engines.common.optimizers import load_exactly
from gradvote.engines.common.parameters import Parameters, parameters_of
from gradvote.engines.common.payloads import check_alike
from gradvote.engines.common.shared_state import plain

START = "the start of the round"


class Pair(NamedTuple):
    """A parameter as a worker trains it, and as all agreed on it.

    `key` is what the inner optimizer knows it by: `own` itself, but for a shard, whose optimizer has the whole.
    """

    name: str
    own: Tensor
    agreed: nn.Parameter
    key: Tensor


class Start(nn.Module):
    """Copies of a model's parameters and buffers, under their names and without what the model does with them."""

    whole = True
    """Whether a checkpoint is this process's own; a part of one may come from other processes."""

    def pairs(self, model: nn.Module) -> list[Pair]:
        """The model's parameters beside those of the start."""
        there = dict(self.named_parameters())
        return [Pair(name, p, there[name], p) for name, p in model.named_parameters()]

    def trained(self, model: nn.Module, where: str) -> Parameters:
        """The model's trained parameters, as its optimizer has them."""
        return parameters_of(model.named_parameters(), where)

    def settle(self) -> None:
        """Before the model is read or written: whatever it needs for what the pairs have to be its parameters."""

    def saved(self, outer: Optimizer) -> dict[str, Any]:
        """The values of the start, and the outer optimizer's state."""
        start = {name: value.detach().clone() for name, value in self.state_dict().items()}
        return {"start": start, "outer": plain(deepcopy(outer.state_dict()))}

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raise ValueError for the values of another model."""
        check_alike(dict(saved["start"]), dict(self.state_dict()), START)

    def load(self, saved: Mapping[str, Any], outer: Optimizer) -> None:
        """Take over what was saved and has been checked."""
        self.load_state_dict(saved["start"])
        load_exactly(outer, deepcopy(saved["outer"]))

    def place(self, name: str, value: Tensor, kept: bool, share: bool = False) -> None:
        """Keep a copy, or the tensor itself, under a dotted name; `kept`: the model's `state_dict` has it, too."""
        *path, last = name.split(".")
        home: nn.Module = self
        for part in path:
            if part not in home._modules:
                home.add_module(part, nn.Module())
            home = home.get_submodule(part)
        if isinstance(value, nn.Parameter):
            own = value if share else nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)
            home.register_parameter(last, own)
        else:
            home.register_buffer(last, value if share else value.detach().clone(), persistent=kept)


def start_of(model: nn.Module) -> Start:
    """The start of a model's first round: its parameters and buffers as they are, tied ones once."""
    start, kept = Start(), model.state_dict().keys()
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        start.place(name, value, name in kept)
    return start


def outer_on(outer: Optimizer | Callable[[list[nn.Parameter]], Optimizer], model: nn.Module, start: Start) -> Optimizer:
    """The outer optimizer on the start: a factory is given its parameters, one that was built on the model is moved.

    Raises:
        TypeError: neither of both.
        ValueError: it was built on other parameters, or has stepped already.
    """
    if isinstance(outer, type):
        raise TypeError(
            f"outer= takes an optimizer, or a function that makes one with its rate; got the class {outer.__name__}, "
            f"which would step at its default rate. Give outer=lambda params: {outer.__name__}(params, lr=0.7)."
        )
    if isinstance(outer, Optimizer):
        check_steps_alone([outer], "a round")
    else:
        made = outer([p for p in start.parameters() if p.requires_grad]) if callable(outer) else outer
        if not isinstance(made, Optimizer):
            raise TypeError(
                f"outer= takes an optimizer on the model's parameters, or a function that makes one of parameters; "
                f"got {type(made).__name__}. For instance outer=lambda params: torch.optim.SGD(params, lr=0.7)."
            )
        check_steps_alone([made], "a round")
        return made
    if outer.state:
        raise ValueError(
            "The outer optimizer has stepped already; give one that is new, and load its checkpoint after."
        )
    there = dict(start.named_parameters())
    known = {id(p): there[name] for name, p in model.named_parameters()}
    if any(id(p) not in known for group in outer.param_groups for p in group["params"]):
        raise ValueError(
            "The outer optimizer was built on other parameters than the model's. Build it on model.parameters(), or "
            "give a function: outer=lambda params: torch.optim.SGD(params, lr=0.7)."
        )
    for group in outer.param_groups:
        group["params"] = [known[id(p)] for p in group["params"]]
    return outer


class Agreed:
    """Lends a model the agreed parameters. `settle` is called before the model is written."""

    def __init__(self, pairs: Sequence[Pair], optimizers: Sequence[Optimizer], settle: Callable[[], None]) -> None:
        self._pairs, self._inner, self._settle, self._shown = pairs, optimizers, settle, False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within, the model has them and no optimizer steps; afterwards it has its own again."""
        self._settle()
        with torch.no_grad():
            kept = [pair.own.detach().clone() for pair in self._pairs]
            for pair in self._pairs:
                pair.own.copy_(pair.agreed)
        self._shown = True
        hooks = [each.register_step_pre_hook(lambda *_: self.check("optimizer.step()")) for each in self._inner]
        try:
            yield
        finally:
            self._shown = False
            for hook in hooks:
                hook.remove()
            self._settle()
            with torch.no_grad():
                for pair, own in zip(self._pairs, kept, strict=True):
                    pair.own.copy_(own)

    def check(self, call: str) -> None:
        """Raise RuntimeError within `shown`: local steps go on from a worker's own parameters."""
        if self._shown:
            raise RuntimeError(
                f"Within `with local.agreed()` the model is what all agreed on, not where this worker is: call {call} "
                "before or after."
            )


@contextmanager
def given_back(outer: object) -> Iterator[None]:
    """Where attaching fails within, an optimizer that was built on the model is as it was, for the next try."""
    groups = outer.param_groups if isinstance(outer, Optimizer) else []
    before = [group["params"] for group in groups]
    try:
        yield
    except BaseException:
        for group, params in zip(groups, before, strict=True):
            group["params"] = params
        raise
