"""Whether values are of the types that are written down: of options by name, and of parts when they are made."""

import types
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS: dict[object, str] = {
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    str: "a text",
    dict: "a dictionary",
    type(None): "None",
}
REFUSED = object()


class Checked:
    """The base of parts: a dataclass whose fields are of their types, or it is not made.

    A part that holds something else (`TrimmedMean(1.5)`, a text from a configuration file) would fail in the middle of
    its first step, or count wrongly.

    Raises:
        ValueError: a value of another type; the sentence says what was expected.
    """

    if not TYPE_CHECKING:  # to which what a part is made with is told by its own fields alone

        def __new__(cls, *args, **kwargs):
            hints = _hints_of(cls)
            given = dict(zip(hints, args, strict=False)) | kwargs  # __init__ tells of a wrong number of them
            for name, value in given.items():
                if name in hints and fit(value, hints[name]) is REFUSED:
                    raise ValueError(f"{name} of {cls.__name__} must be {in_words(hints[name])}; got {value!r}.")
            return super().__new__(cls)


@cache
def _hints_of(cls: Any) -> dict[str, object]:
    """The types of what a dataclass is made of, in their order; none for a class that makes itself in another way."""
    if "__dataclass_fields__" not in vars(cls):
        return {}
    try:
        hints = get_type_hints(cls)
    except NameError:  # a plugin's names that only its type checker knows
        return {}
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def fit(value: object, hint: object) -> object:
    """The value as one of the type, or REFUSED: lists become tuples, and texts what the `parse` of a class makes."""
    if get_origin(hint) in (Union, types.UnionType):
        fits = (fit(value, option) for option in _simple_first(get_args(hint)))
        return next((found for found in fits if found is not REFUSED), REFUSED)
    if get_origin(hint) in (tuple, Sequence):
        return _fit_items(value, get_args(hint)[0])
    if get_origin(hint) is Literal:
        return value if type(value) in {type(option) for option in get_args(hint)} else REFUSED
    if isinstance(value, str) and hasattr(hint, "parse"):
        return hint.parse(value)
    return value if _is_a(value, get_origin(hint) or hint) else REFUSED


def in_words(hint: object) -> str:
    """What a type asks for, as errors say it."""
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(in_words(option) for option in get_args(hint))
    if get_origin(hint) in (tuple, Sequence):
        return f"a list of which each item is {in_words(get_args(hint)[0])}"
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return _WORDS.get(get_origin(hint) or hint, getattr(hint, "__name__", str(hint)))


def _fit_items(value: object, hint: object) -> object:
    if not isinstance(value, list | tuple):
        return REFUSED
    items = tuple(fit(item, hint) for item in value)
    return REFUSED if any(item is REFUSED for item in items) else items


def _simple_first(hints: tuple[object, ...]) -> list[object]:
    """Types that read texts come last, as they raise errors of their own."""
    return sorted(hints, key=lambda hint: hasattr(hint, "parse"))


def _is_a(value: object, hint: object) -> bool:
    if hint in (float, int):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    if hint is Any or not isinstance(hint, type) or getattr(hint, "_is_protocol", False):
        return True  # nobody can tell, or whoever uses it will
    return isinstance(value, hint)
