"""Faults: what a lying worker does to its gradient, or a faulty link to a payload in transit. One fault per file."""

import importlib
import inspect
import pkgutil
from typing import TypeGuard

from gradvote.arguments import checked, hints_of
from gradvote.errors import unknown
from gradvote.faults._base import Fault
from gradvote.faults._plan import PLACES, Faulty, diverging, dropped, on_gradients, on_link

_INFRASTRUCTURE = "_"
_NAMES = [info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith(_INFRASTRUCTURE)]


def names() -> list[str]:
    """The faults by their CLI names."""
    return [name.replace("_", "-") for name in _NAMES]


def fault_class(name: str) -> type[Fault]:
    """The class of a fault by its CLI name."""
    if name.replace("-", "_") not in _NAMES:
        raise unknown("fault", name, names())
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return next(v for v in vars(module).values() if _defines(v, module.__name__))


def _defines(value: object, module: str) -> TypeGuard[type[Fault]]:
    return inspect.isclass(value) and issubclass(value, Fault) and value.__module__ == module


def create(name: str, **options: object) -> Fault:
    """A fault by its CLI name.

    Raises:
        ValueError: no such fault or option, or an option's value does not fit.
    """
    kind = fault_class(name)
    return kind(**checked(f"the fault {name}", options, hints_of(kind)))


def summary(name: str) -> str:
    """One line about a fault."""
    return (inspect.getdoc(fault_class(name)) or "").split("\n", 1)[0]


__all__ = [
    "PLACES",
    "Fault",
    "Faulty",
    "create",
    "diverging",
    "dropped",
    "fault_class",
    "names",
    "on_gradients",
    "on_link",
    "summary",
]
