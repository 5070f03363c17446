"""Whether values are of the types that are written down: of options by name, of parts and of algorithms when made."""

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, wraps
from inspect import signature
from numbers import Integral, Real
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

_WORDS: dict[object, str] = {
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    str: "a text",
    dict: "a dictionary",
    type(None): "None",
}
REFUSED = object()
P = ParamSpec("P")
T = TypeVar("T")


class Checked:
    """The base of parts: a dataclass whose fields are of their types, or it is not made.

    A part that holds something else (`TrimmedMean(1.5)`, a text from a configuration file) would fail in the middle of
    its first step, or count wrongly.

    Raises:
        ValueError: a value of another type; the sentence says what was expected.
    """

    if not TYPE_CHECKING:  # to which what a part is made with is told by its own fields alone

        def __new__(cls, *args, **kwargs):
            names, hints = _made_of(cls)
            given = dict(zip(names, args, strict=False)) | kwargs  # __init__ tells of a wrong number of them
            _check_all(cls.__name__, given, hints)
            return super().__new__(cls)


def check_types(factory: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function that makes something of its options: each is of its type, or it is not called.

    For those that count with an option, or give it to a part for which another type is right, too: `Sign(scale=None)`
    is a sign without a scale, `dropsignsgd(c=None)` would be another algorithm.

    Raises:
        ValueError: a value of another type; the sentence says what was expected.
    """

    @wraps(factory)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        names, hints = _options_of(factory)
        given = dict(zip(names, args, strict=False)) | kwargs  # the factory itself tells of a wrong number of them
        _check_all(factory.__qualname__.removesuffix(".__init__"), given, hints)
        return factory(*args, **kwargs)

    return checked


@cache
def _options_of(factory: Callable[..., object]) -> tuple[tuple[str, ...], dict[str, object]]:
    return tuple(signature(factory).parameters), get_type_hints(factory)


def _check_all(of: str, given: Mapping[str, object], hints: Mapping[str, object]) -> None:
    for name, value in given.items():
        if name in hints and fit(value, hints[name]) is REFUSED:
            raise ValueError(f"{name} of {of} must be {in_words(hints[name])}; got {value!r}.")


@cache
def _made_of(cls: Any) -> tuple[tuple[str, ...], dict[str, object]]:
    """What a class is made with, in order, and the types of the fields among it: none where no dataclass made that.

    Of an `__init__` of its own only what is annotated as the field of that name is.
    """
    if "__dataclass_fields__" not in vars(cls):
        return (), {}
    try:
        hints = get_type_hints(cls)
    except (NameError, AttributeError, TypeError):  # a plugin's names that only its type checker knows
        return (), {}
    told = signature(cls.__init__).parameters  # keywords and InitVars stand elsewhere than their fields
    own = [field for field in fields(cls) if field.name in told and told[field.name].annotation == field.type]
    return tuple(told)[1:], {field.name: hints[field.name] for field in own}


def fit(value: object, hint: object) -> object:
    """The value as one of the type, or REFUSED: lists become tuples, and texts what the `parse` of a class makes."""
    if get_origin(hint) in (Union, types.UnionType):
        fits = (fit(value, option) for option in _simple_first(get_args(hint)))
        return next((found for found in fits if found is not REFUSED), REFUSED)
    if get_origin(hint) in (tuple, Sequence):
        return _fit_items(value, get_args(hint))
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
        items = get_args(hint)
        if _differ(items):
            return f"a list of {', '.join(map(in_words, items))}"
        return f"a list of which each item is {in_words(items[0])}" if items else "a list"
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return _WORDS.get(get_origin(hint) or hint, getattr(hint, "__name__", str(hint)))


def _fit_items(value: object, hints: tuple[object, ...]) -> object:
    if not isinstance(value, list | tuple) or (_differ(hints) and len(value) != len(hints)):
        return REFUSED
    each = hints if _differ(hints) else (hints[:1] or (Any,)) * len(value)
    items = tuple(fit(item, hint) for item, hint in zip(value, each, strict=True))
    return REFUSED if any(item is REFUSED for item in items) else items


def _differ(hints: tuple[object, ...]) -> bool:
    """Whether items have a type each, as in tuple[int, str]; otherwise one for all, or none."""
    return len(hints) > 1 and hints[1] is not Ellipsis


def _simple_first(hints: tuple[object, ...]) -> list[object]:
    """Types that read texts come last, as they raise errors of their own."""
    return sorted(hints, key=lambda hint: hasattr(hint, "parse"))


def _is_a(value: object, hint: object) -> bool:
    if hint in (float, int):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    if hint is Any or not isinstance(hint, type) or getattr(hint, "_is_protocol", False) or is_typeddict(hint):
        return True  # nobody can tell, or whoever uses it will
    return isinstance(value, hint)
