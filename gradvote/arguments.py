"""Arguments given by name, as NAME:key=value or in JSON: checked against a signature before anything is built."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from typing import Any, get_type_hints

from gradvote.errors import unknown
from gradvote.fitting import REFUSED, fit, in_words


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


def named(spec: str, options: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """NAME:key=value and keywords beside it -> the name and all options.

    Raises:
        ValueError: an option is given both ways, or what is given is no name.
    """
    if not isinstance(spec, str):
        raise ValueError(f"NAME or NAME:key=value is a text; got {spec!r}.")
    name, own = parse_spec(spec)
    for key in own.keys() & options.keys():
        raise ValueError(f"{key} is given twice, in '{spec}' and as {options[key]!r}; leave one of them out.")
    return name, {**own, **options}


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
    fitted = fit(value, hint)
    if fitted is REFUSED:
        raise ValueError(f"{what} must be {in_words(hint)}; got {value!r}.")
    return fitted
