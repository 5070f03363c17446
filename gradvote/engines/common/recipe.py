"""Whether a checkpoint is of this run: the first thing that differs, by name."""

import ast
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from gradvote.engines.common.arguments import in_words
from gradvote.engines.common.parameters import plain_name
from gradvote.engines.common.protocol import Named, Protocol

SHOWN = 300


def check_mapping(state: Any) -> None:
    """Raise TypeError for what is no state at all, as where a checkpoint has none."""
    if not isinstance(state, Mapping):
        raise TypeError(f"load_state_dict takes what state_dict gave, a dictionary; got {in_words(state)}.")


def check_saved(state: Mapping[str, Any], own: Protocol, facts: Mapping[str, Any], advice: str) -> None:
    """Raise ValueError, with `advice`, for a saved state of another recipe, or with other values of these `facts`."""
    check_mapping(state)
    other = difference(state.get("recipe"), own)
    for name, value in facts.items():
        if other is None and state.get(name) != value:
            other = f"{name} {state.get(name)!r}; here it is {value!r}"
    if other is not None:
        raise ValueError(
            f"The state to load has {other}. It must come from the same algorithm, model (names and shapes of its "
            f"parameters) and seed. {advice}"
        )


def difference(found: object, own: Protocol) -> str | None:
    """What a saved recipe has otherwise than that of a protocol; None where they are the same.

    Before 0.3 a compiled model's parameters were called by other names.
    """
    found = plain_name(found) if isinstance(found, str) else found
    if found == own.recipe_text:
        return None
    head = f"({own.algorithm!r}, "
    if not isinstance(found, str) or not found.startswith(head):
        return f"another algorithm: {str(found)[:SHOWN]}; here it is {str(own.algorithm)[:SHOWN]}"
    try:
        tensors, seed = ast.literal_eval(f"({found[len(head) :]}")
        return _first(tensors, own.tensors) or f"the seed {seed}; here it is {own.seed}"
    except (SyntaxError, TypeError, ValueError):
        return f"a recipe of another version: {found[len(head) :][:SHOWN]}"


def _first(found: Named, own: Named) -> str | None:
    """The first parameter that is another one."""
    for i, (theirs, mine) in enumerate(zip_longest(found, own)):
        if theirs != mine:
            return f"as parameter {i} {_in_words(theirs)}; here it is {_in_words(mine)}"
    return None


def _in_words(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return "none" if tensor is None else f"{tensor[0]!r} of shape {tuple(tensor[1])}"
