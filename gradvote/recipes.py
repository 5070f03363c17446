"""Algorithms read back from their recipe, which is their `repr`: nothing is run but the constructors of known parts."""

import ast
from collections.abc import Callable, Iterator
from typing import Any

from gradvote import aggregators, codecs, schedules, transforms
from gradvote.core import Aggregator, Algorithm, Part
from gradvote.discovery import imported, plugged
from gradvote.sources import classes_in

_OTHERS: dict[str, Callable[..., Any]] = {
    "Algorithm": Algorithm,
    "Relative": transforms.Relative,
    "chain": codecs.chain,
}
_BASES: tuple[type, ...] = (Part, Aggregator, schedules.Schedule)
_KINDS = ("aggregators", "codecs", "schedules", "transforms")
"""The folders of installed plugins in which a part may be: what is in none of their files is not imported."""
_OWN = tuple(package.__name__ for package in (aggregators, codecs, schedules, transforms))
SHOWN = 300
"""Letters of a recipe that an error shows."""


def first_of(recipe: str) -> Algorithm:
    """The algorithm at the head of a recipe "(algorithm, ...)"; parts may be of any package that has been imported or
    is an installed plugin.

    Raises:
        ValueError: it cannot be read back, for example for a part that is not imported.
    """
    try:
        node = ast.parse(recipe.strip(), mode="eval").body
        head = node.elts[0] if isinstance(node, ast.Tuple) and node.elts else node
        found = _value(head)
    except (SyntaxError, TypeError, ValueError) as error:
        raise _unreadable(recipe, str(error)) from error
    if not isinstance(found, Algorithm) or repr(found) != ast.get_source_segment(recipe.strip(), head):
        raise _unreadable(recipe, f"it gives {found!r}")
    return found


def _unreadable(recipe: str, why: str) -> ValueError:
    short = recipe if len(recipe) <= SHOWN else f"{recipe[:SHOWN]} …"
    return ValueError(f"No algorithm can be read back from the recipe {short}: {why}.")


def _value(node: ast.expr) -> Any:
    """What an expression of a recipe stands for: a number, a text, a tuple or a part."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            named = {keyword.arg: _value(keyword.value) for keyword in keywords if keyword.arg}
            return _maker(name)(*map(_value, args), **named)
        case ast.Tuple(elts=items):
            return tuple(map(_value, items))
    return ast.literal_eval(node)


def _maker(name: str) -> Callable[..., Any]:
    """The class of a part by its name; the library's own comes first."""
    if name in _OTHERS:
        return _OTHERS[name]
    known = _known(name)
    if not known:
        for found in (found for kind in _KINDS for found in plugged(kind) if name in classes_in(found.file)):
            imported(found, "part")
        known = _known(name)
    chosen = [kind for kind in known if kind.__module__.startswith(_OWN)] or list(known)
    if len(chosen) != 1:
        how_many = f"{len(chosen)} imported modules define" if chosen else "no imported module defines"
        raise ValueError(f"{how_many} its part {name}; import the one that does")
    return chosen[0]


def _known(name: str) -> set[type]:
    """The imported parts of a name."""
    return {kind for base in _BASES for kind in _under(base) if kind.__qualname__ == name}


def _under(base: type) -> Iterator[type]:
    """The subclasses of a class, and theirs."""
    kinds: list[type] = base.__subclasses__()
    for kind in kinds:
        yield kind
        yield from _under(kind)
