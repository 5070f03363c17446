"""One optimizer or several, as one: the learning rate of each parameter, and the groups in a fixed order.

Where workers come and go, whose learning rate was not the one that was taken is told so.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

SHARE = 0.1
"""By how much of the larger one rates may differ: a scheduler that is a step behind is no news."""
APART = (
    "This worker's learning rate is {own:g}, but the lower median of those that voted, {agreed:g}, is taken by all. "
    "A worker that came later may have a scheduler that begins anew. Derive the rate from the step that all are at; "
    "under torchft the scheduler can travel, too: "
    "manager.register_state_dict_fn('scheduler', scheduler.load_state_dict, scheduler.state_dict)."
)


def check_optimizer_state(state: Mapping[str, Any], own: Optimizer, kind: str | None, called: str) -> None:
    """Whether a saved state is of an optimizer like this one, which torch finds out in its next step, or never.

    Raises:
        ValueError: it is of another `kind`, or of other groups; the sentence says both.
    """
    here, groups = type(own).__name__, [*state["param_groups"]]
    if kind is not None and kind != here:
        found, mine = kind, here
    elif [len(g["params"]) for g in groups] != [len(g["params"]) for g in own.param_groups]:
        found, mine = (
            f"groups of {[len(g['params']) for g in each]} parameters" for each in (groups, own.param_groups)
        )
    elif groups and own.param_groups[0].keys() - groups[0].keys() - {"initial_lr", "param_names"}:
        found, mine = (
            f"the settings {', '.join(sorted(g.keys() - {'params'}))}" for g in (groups[0], own.param_groups[0])
        )
    else:
        return
    raise ValueError(
        f"The state to load was saved with another {called}: {found}; here it is {mine}. Build the one of the run that "
        "saved it."
    )


def rate_of(group: Mapping[str, Any]) -> float:
    """The learning rate of a group.

    Raises:
        ValueError: it has none.
    """
    rate = group.get("lr")
    if rate is None:
        raise ValueError(
            "A group of the optimizer has no learning rate (lr=None), as where it makes rates of its own; memories are "
            "rescaled by the rates. Give it one (transformers' Adafactor: relative_step=False, lr=1e-3)."
        )
    return float(rate)


def load_exactly(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """`optimizer.load_state_dict`, after which states have the types they were saved with.

    Torch makes all of them the parameter's type: float32 averages of bfloat16 parameters would lose half their bits.
    """
    optimizer.load_state_dict(dict(state))
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for number, p in zip(numbers, params, strict=True):
        for key, saved in state["state"].get(number, {}).items():
            own = optimizer.state[p].get(key)
            if isinstance(saved, Tensor) and isinstance(own, Tensor) and own.dtype != saved.dtype:
                optimizer.state[p][key] = saved.detach().to(own.device, copy=True)


class Optimizers:
    """The user's optimizers. `rates()` is one number where all parameters have the same, else a list by parameter.

    Without an optimizer all rates are 1.0. Rates are read anew at each call: schedules change them.

    Raises:
        ValueError: a parameter is in no optimizer, or in two, or a group has no learning rate.
    """

    def __init__(self, params: Sequence[Tensor], names: Sequence[str], optimizers: Sequence[Optimizer]) -> None:
        self.all = tuple(optimizers)
        self._ids, self._names = [id(p) for p in params], tuple(names)
        if not self.all:
            return
        for group in self.groups:
            rate_of(group)
        places = Counter(id(p) for group in self.groups for p in group["params"])
        absent = [name for name, key in zip(names, self._ids, strict=True) if not places[key]]
        if absent:
            raise ValueError(
                f"The optimizer does not have the parameter {absent[0]!r} ({len(absent)} are missing). Build it over "
                "all exchanged parameters, give the exchange only those that it has, or give all optimizers: "
                "optimizer=[a, b]."
            )
        twice = [name for name, key in zip(names, self._ids, strict=True) if places[key] > 1]
        if twice:
            raise ValueError(f"The parameter {twice[0]!r} is in two optimizers or groups, so it has two rates.")

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimizers, in their order."""
        return [group for optimizer in self.all for group in optimizer.param_groups]

    def rates(self) -> float | list[float]:
        """The learning rates of now.

        Raises:
            ValueError: a parameter has been taken out of its optimizer, or a group has no rate.
        """
        if not self.all:
            return 1.0
        known = {id(p): rate_of(group) for group in self.groups for p in group["params"]}
        gone = [name for name, key in zip(self._names, self._ids, strict=True) if key not in known]
        if gone:
            raise ValueError(
                f"The parameter {gone[0]!r} was taken out of its optimizer after the votes had begun, so it has no "
                "learning rate. Leave it there: one that is frozen (requires_grad_(False)) only abstains."
            )
        rates = [known[key] for key in self._ids]
        return rates[0] if len(set(rates)) == 1 else rates

    def group_of(self) -> list[int]:
        """The number of the group of each parameter."""
        place = {id(p): i for i, group in enumerate(self.groups) for p in group["params"]}
        return [place[key] for key in self._ids]

    def numbers(self) -> list[frozenset[int]]:
        """The numbers of each optimizer's parameters."""
        number = {key: i for i, key in enumerate(self._ids)}
        ids = [[id(p) for group in optimizer.param_groups for p in group["params"]] for optimizer in self.all]
        return [frozenset(number[key] for key in own if key in number) for own in ids]

    def state_dict(self) -> Any:
        """That of the only optimizer, or a list."""
        states = [optimizer.state_dict() for optimizer in self.all]
        return states[0] if len(states) == 1 else states

    def load_state_dict(self, state: Any) -> None:
        """The inverse of `state_dict`."""
        states = [state] if len(self.all) == 1 else state
        for optimizer, own in zip(self.all, states, strict=True):
            load_exactly(optimizer, own)


class RatesApart:
    """Warns once."""

    def __init__(self) -> None:
        self._told = False

    def look(self, own: Sequence[float | Tensor], agreed: Sequence[float]) -> None:
        """The rates of this worker's groups, and those that all take."""
        for mine, theirs in zip(map(float, own), agreed, strict=True):
            if not self._told and not abs(mine - theirs) <= SHARE * max(abs(mine), theirs):
                self._told = True
                warnings.warn(APART.format(own=mine, agreed=theirs), stacklevel=6)
