"""Faults: what a lying worker does to its gradient, or a faulty link to a payload in transit. One fault per file."""

import inspect
from typing import TYPE_CHECKING, TypeGuard

from gradvote.arguments import checked, hints_of, named
from gradvote.discovery import Parts, on_first_use, spoilt
from gradvote.sources import class_name, module_names, only_class_in

if TYPE_CHECKING:  # for type checkers alone: a fault without a line here is found all the same
    from gradvote.faults._base import Collusion, Fault
    from gradvote.faults._plan import PLACES, Faulty, diverging, dropped, on_gradients, on_link
    from gradvote.faults.alie import Alie as Alie
    from gradvote.faults.anti_sign import AntiSign as AntiSign
    from gradvote.faults.blind import Blind as Blind
    from gradvote.faults.drop import Drop as Drop
    from gradvote.faults.invert import Invert as Invert
    from gradvote.faults.nan import Nan as Nan
    from gradvote.faults.random import Random as Random
    from gradvote.faults.rescale import Rescale as Rescale

_PARTS = Parts("faults", "fault", __name__, __path__)
_BASES = ("Fault", "Collusion")
_IN_PLAN = ("PLACES", "Faulty", "diverging", "dropped", "on_gradients", "on_link")
_CLASSES = {class_name(name): f"{__name__}.{name}" for name in module_names(__path__)}
_HOMES = dict.fromkeys(_BASES, "gradvote.faults._base") | dict.fromkeys(_IN_PLAN, "gradvote.faults._plan") | _CLASSES
if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(globals(), _HOMES)


def names() -> list[str]:
    """The faults by their CLI names."""
    return _PARTS.names()


def fault_class(name: str) -> "type[Fault]":
    """The class of a fault by its CLI name."""
    module = _PARTS.load(name)
    for value in vars(module).values():
        if _defines(value, module.__name__):
            return value
    raise spoilt(_PARTS.find(name), "fault", "it defines no class under gradvote.faults.Fault")


def _defines(value: object, module: str) -> "TypeGuard[type[Fault]]":
    from gradvote.faults._base import Fault  # noqa: PLC0415  # names and help do without PyTorch

    return inspect.isclass(value) and issubclass(value, Fault) and value.__module__ == module


def create(name: str, **options: object) -> "Fault":
    """A fault by its CLI name, or NAME:key=value.

    Raises:
        ValueError: no such fault or option, or an option's value does not fit.
    """
    name, options = named(name, options)
    kind = fault_class(name)
    return kind(**checked(f"the fault {name}", options, hints_of(kind)))


def summary(name: str) -> str:
    """One line about a fault."""
    return only_class_in(_PARTS.find(name).file, *_BASES).summary


def option_names(name: str) -> list[str]:
    """The options of a fault, from its source alone where that tells."""
    told = only_class_in(_PARTS.find(name).file, *_BASES).options
    return list(hints_of(fault_class(name))) if told is None else list(told)


__all__ = [
    "PLACES",
    "Collusion",
    "Fault",
    "Faulty",
    "create",
    "diverging",
    "dropped",
    "fault_class",
    "names",
    "on_gradients",
    "on_link",
    "option_names",
    "summary",
]
__all__ += list(_CLASSES)
