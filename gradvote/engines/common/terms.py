"""What all workers must be given alike, by name: compared as texts, so that an error can name both values."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from torch import Tensor
from torch.optim import SGD, Optimizer

from gradvote.engines.common.optimizers import Optimizers
from gradvote.engines.common.protocol import Protocol

Terms = Mapping[str, object]
"""Names of arguments, in the words of the caller, and their values, which are compared by their `repr`."""
SHOWN, BEFORE = 120, 40
"""Letters of a value that an error shows; and of what is before the first difference of longer ones."""
HOW = ("foreach", "fused", "capturable", "differentiable")
"""How an optimizer does its work: of SGD to the same bits, of Adam, NAdam and others to other ones."""
OWN = frozenset({"params", "param_names", "initial_lr", *HOW})
"""Settings of a group that are not compared by themselves: `HOW` stands beside the kind, where it matters."""


def mark_of(terms: Terms) -> int:
    """A 64-bit digest: sets apart the recipes of those who were given different things."""
    return int.from_bytes(hashlib.blake2b(repr(texts_of(terms)).encode(), digest_size=8).digest(), "little")


def texts_of(terms: Terms) -> dict[str, str]:
    """Terms as they are compared."""
    return {name: value if isinstance(value, str) else repr(value) for name, value in terms.items()}


def differences(one: Mapping[str, str], other: Mapping[str, str], whose: str) -> list[str]:
    """Each term that differs, with the value of `one`, and in brackets that of the `other`, `whose` it is."""
    found = []
    for name in [*one, *(name for name in other if name not in one)]:
        mine, theirs = one.get(name, "missing"), other.get(name, "missing")
        if mine != theirs:
            mine, theirs = _excerpts(mine, theirs)
            found.append(f"{name} {mine} ({whose}: {theirs})")
    return found


def kinds(optimizers: Sequence[Optimizer]) -> str:
    """The names of their classes; and what else decides to which bits they step, if it is not what torch chooses."""
    return ", ".join(map(_kind, optimizers)) or "None"


def optimizer_terms(
    optimizers: Sequence[Optimizer], params: Iterable[Tensor], called: str = "optimizer"
) -> dict[str, object]:
    """The kinds of optimizers, and all settings of their groups that have some of these parameters.

    Workers whose optimizers differ part with their first step, or rescale memories by other rates.
    """
    wanted = {id(p) for p in params}
    groups = [g for o in optimizers for g in o.param_groups if any(id(p) in wanted for p in g["params"])]
    terms: dict[str, object] = {called: kinds(optimizers)}
    if optimizers:
        terms[f"number of groups of the {called}"] = len(groups)
    for name in sorted({name for group in groups for name in group} - OWN):
        values = [_plain(group.get(name)) for group in groups]
        if None not in values:
            terms[f"{name} of the {called}"] = values[0] if len(set(values)) == 1 else _plain([*values])
    return terms


def member_terms(protocol: Protocol, optimizers: Optimizers, check_every: int | None) -> dict[str, object]:
    """Where workers come and go. They agree on rates in each step, so these may differ."""
    shapes = hashlib.blake2b(repr(protocol.tensors).encode(), digest_size=4).hexdigest()
    number = len(protocol.tensors or protocol.layout.numels)
    return {
        "algorithm": protocol.algorithm,
        "seed": protocol.seed,
        "parameters": f"{number} with {protocol.layout.size} coordinates (names and shapes: {shapes})",
        "optimizer": kinds(optimizers.all),
        "number of parameter groups": len(optimizers.groups),
        "check_parameters_every": check_every,
    }


def _kind(optimizer: Optimizer) -> str:
    name, groups = type(optimizer).__name__, optimizer.param_groups
    if type(optimizer) is SGD:
        return name
    told = {f"{how}={group[how]}" for group in groups for how in HOW if group.get(how) not in (None, False)}
    told |= {"its lr a tensor" for group in groups if isinstance(group.get("lr"), Tensor)}
    return f"{name} with {', '.join(sorted(told))}" if told else name


def _plain(value: Any) -> str | None:
    """A number, a flag, a text or several of them as text; None for what has no plain value."""
    if isinstance(value, Tensor):
        return _plain(value.item()) if value.numel() == 1 else None
    if isinstance(value, list | tuple):
        own = [_plain(each) for each in value]
        return None if None in own else f"({', '.join(map(str, own))})"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value) if value is None or isinstance(value, bool | int | str) else None


def _excerpts(*texts: str) -> list[str]:
    """Long texts from a little before their first difference."""
    alike = sum(1 for _ in takewhile(lambda letters: len({*letters}) == 1, zip(*texts, strict=False)))
    begin = max(0, alike - BEFORE) if max(map(len, texts)) > SHOWN else 0
    return [
        ("..." if begin else "") + text[begin : begin + SHOWN] + ("..." if len(text) > begin + SHOWN else "")
        for text in texts
    ]
