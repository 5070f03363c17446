"""How samples are split over workers: one file per partition, its name is the partition's."""

from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gradvote.data.discovery import found, module_named
from gradvote.discovery import class_name, file_of, module_names, on_first_use, only_class_in
from gradvote.errors import unknown

if TYPE_CHECKING:  # for type checkers alone: a partition without a line here is found all the same
    from gradvote.data.partitions._common import Partition, class_histogram
    from gradvote.data.partitions.by_class import ByClass as ByClass
    from gradvote.data.partitions.dirichlet import Dirichlet as Dirichlet
    from gradvote.data.partitions.iid import Iid as Iid
    from gradvote.data.partitions.unequal import Unequal as Unequal

__all__ = [
    "CLASSES",
    "Partition",
    "class_histogram",
    "describe_partition",
    "partition_named",
    "partition_names",
    "partition_options",
]

_HERE = "gradvote.data.partitions"
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
    return [name.replace("_", "-") for name in module_names(__path__)]


def describe_partition(name: str) -> str:
    """One line about a partition. Raises ``ValueError`` for an unknown name."""
    return only_class_in(_file(name)).summary


def partition_options(name: str) -> list[str]:
    """The options that a partition accepts. Raises ``ValueError`` for an unknown name."""
    told = only_class_in(_file(name)).options
    return [option.name for option in _fields(name)] if told is None else list(told)


def _file(name: str) -> Path:
    return file_of(__path__, found("partition", name, __path__))


def partition_named(name: str, **options: float | None) -> "Partition":
    """Build a partition, e.g. ``partition_named("dirichlet", alpha=0.1)``.

    Raises ``ValueError`` for an unknown name, an option the partition does not have, and a missing or invalid
    one.
    """
    valid = partition_options(name)
    for given in options:
        if not valid:
            raise ValueError(f"The partition '{name}' takes no options, but was given '{given}'.")
        if given not in valid:
            raise unknown(f"option of the partition '{name}'", given, valid)
    for option in _fields(name):
        if option.default is MISSING and option.name not in options:
            raise ValueError(f"The partition '{name}' needs the option '{option.name}'.")
    return _class_named(name)(**options)


def _fields(name: str) -> tuple[Field[object], ...]:
    kind = _class_named(name)
    assert is_dataclass(kind)
    return fields(kind)


def _class_named(name: str) -> "type[Partition]":
    module = module_named("partition", name, __name__, __path__)
    own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    assert len(own) == 1, f"{module.__name__} must define exactly one class"
    return cast("type[Partition]", own[0])
