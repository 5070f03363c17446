"""How samples are split over workers: one file per partition, its name is the partition's."""

from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gradvote.arguments import checked, hints_of, named
from gradvote.discovery import Parts, on_first_use, spoilt
from gradvote.errors import unknown
from gradvote.sources import class_name, module_names, only_class_in

if TYPE_CHECKING:  # for type checkers alone: a partition without a line here is found all the same
    from gradvote.partitions._common import Partition, class_histogram
    from gradvote.partitions.by_class import ByClass as ByClass
    from gradvote.partitions.dirichlet import Dirichlet as Dirichlet
    from gradvote.partitions.iid import Iid as Iid
    from gradvote.partitions.unequal import Unequal as Unequal

__all__ = [
    "CLASSES",
    "Partition",
    "class_histogram",
    "describe_partition",
    "partition_named",
    "partition_names",
    "partition_options",
]

_HERE = "gradvote.partitions"
_PARTS = Parts("partitions", "partition", __name__, __path__)
CLASSES = {class_name(name): f"{_HERE}.{name}" for name in module_names(__path__)}
"""The module of each partition's class."""
__all__ += list(CLASSES)
if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(
        globals(),
        {
            "Partition": f"{_HERE}._common",
            "class_histogram": f"{_HERE}._common",
            **CLASSES,
        },
    )


def partition_names() -> list[str]:
    """The names of the partitions, as written on the command line."""
    return _PARTS.names()


def describe_partition(name: str) -> str:
    """One line about a partition. Raises `ValueError` for an unknown name."""
    return only_class_in(_file(name), "Checked").summary


def partition_options(name: str) -> list[str]:
    """The options that a partition accepts. Raises `ValueError` for an unknown name."""
    told = only_class_in(_file(name), "Checked").options
    return [option.name for option in _fields(name)] if told is None else list(told)


def _file(name: str) -> Path:
    return _PARTS.find(name).file


def partition_named(name: str, **options: object) -> "Partition":
    """Build a partition, e.g. `partition_named("dirichlet", alpha=0.1)` or `partition_named("dirichlet:alpha=0.1")`.

    Raises `ValueError` for an unknown name, an option the partition does not have, and a missing or invalid
    one.
    """
    name, options = named(name, options)
    valid = partition_options(name)
    for given in options:
        if not valid:
            raise ValueError(f"The partition '{name}' takes no options, but was given '{given}'.")
        if given not in valid:
            raise unknown(f"option of the partition '{name}'", given, valid)
    for option in _fields(name):
        if option.default is MISSING and option.name not in options:
            raise ValueError(f"The partition '{name}' needs the option '{option.name}'.")
    kind = _class_named(name)
    return kind(**checked(f"the partition {name}", options, hints_of(kind)))


def _fields(name: str) -> tuple[Field[object], ...]:
    kind = _class_named(name)
    assert is_dataclass(kind)
    return fields(kind)


def _class_named(name: str) -> "type[Partition]":
    module = _PARTS.load(name)
    own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    if len(own) != 1 or not is_dataclass(own[0]):
        raise spoilt(_PARTS.find(name), "partition", "it must define exactly one class, a frozen dataclass")
    return cast("type[Partition]", own[0])
