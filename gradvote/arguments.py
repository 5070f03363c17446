"""Arguments given by name, as NAME:key=value or in JSON: checked against a signature before anything is built."""

import ast
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gradvote.errors import unknown

_WORDS: dict[object, str] = {
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    str: "a text",
    dict: "a dictionary",
    type(None): "None",
}
_REFUSED = object()


def hints_of(factory: Callable[..., object]) -> dict[str, object]:
    """The parameters of a function or dataclass with their types."""
    hints = get_type_hints(factory)
    return {name: hints[name] for name in signature(factory).parameters}


def checked(of: str, given: Mapping[str, object], hints: Mapping[str, object]) -> dict[str, Any]:
    """`given` as arguments of the types in `hints`; `of` names in errors what they are for.

    Lists become tuples where tuples are expected, and a text becomes what the `parse` of an expected class makes of it.

    Raises:
        ValueError: no such argument, or a value of another type; the sentence says what was expected.
    """
    for key in given:
        if key not in hints and not hints:
            raise ValueError(f"{of[:1].upper()}{of[1:]} takes no options; leave out '{key}'.")
        if key not in hints:
            raise unknown(f"option of {of}", key, hints)
    return {key: _checked(f"The option {key} of {of}", value, hints[key]) for key, value in given.items()}


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """NAME:key=value,key=(value, value) -> the name and its options."""
    name, _, rest = spec.partition(":")
    return name, assignments(part for part in re.split(r",(?![^(\[]*[)\]])", rest) if part.strip())


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Several KEY=VALUE.

    Raises:
        ValueError: one is none, or a key is there twice: nobody can tell which value was meant.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, value = assignment(text)
        if key in found:
            raise ValueError(f"{key} is given twice, as {found[key]!r} and as {value!r}; leave one of them out.")
        found[key] = value
    return found


def assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value a Python literal or else a text."""
    key, equals, value = text.strip().partition("=")
    if not equals or not key:
        raise ValueError(f"'{text}' should be KEY=VALUE, for instance mu=0.9.")
    try:
        return key.replace("-", "_"), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key.replace("-", "_"), value


def _checked(what: str, value: object, hint: object) -> object:
    fitted = _fit(value, hint)
    if fitted is _REFUSED:
        raise ValueError(f"{what} must be {_in_words(hint)}; got {value!r}.")
    return fitted


def _fit(value: object, hint: object) -> object:
    """The value as one of the type, or _REFUSED."""
    if get_origin(hint) in (Union, types.UnionType):
        fits = (_fit(value, option) for option in _simple_first(get_args(hint)))
        return next((fit for fit in fits if fit is not _REFUSED), _REFUSED)
    if get_origin(hint) in (tuple, Sequence):
        return _fit_tuple(value, get_args(hint)[0])
    if get_origin(hint) is Literal:
        return value if type(value) in {type(option) for option in get_args(hint)} else _REFUSED
    if isinstance(value, str) and hasattr(hint, "parse"):
        return hint.parse(value)
    return value if _is_a(value, get_origin(hint) or hint) else _REFUSED


def _fit_tuple(value: object, hint: object) -> object:
    if not isinstance(value, list | tuple):
        return _REFUSED
    items = tuple(_fit(item, hint) for item in value)
    return _REFUSED if any(item is _REFUSED for item in items) else items


def _simple_first(hints: tuple[object, ...]) -> list[object]:
    """Types that read texts come last, as they raise errors of their own."""
    return sorted(hints, key=lambda hint: hasattr(hint, "parse"))


def _is_a(value: object, hint: object) -> bool:
    if hint in (float, int):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return hint is Any or (isinstance(hint, type) and isinstance(value, hint))


def _in_words(hint: object) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_in_words(option) for option in get_args(hint))
    if get_origin(hint) in (tuple, Sequence):
        return f"a list of which each item is {_in_words(get_args(hint)[0])}"
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return _WORDS.get(get_origin(hint) or hint, getattr(hint, "__name__", str(hint)))
