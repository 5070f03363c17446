"""Finding the files of a package: a new data set or partition is one new file, with no registry to edit."""

import importlib
from collections.abc import Iterable
from types import ModuleType

from gradvote.discovery import module_names
from gradvote.errors import unknown


def module_named(kind: str, name: str, package: str, path: Iterable[str]) -> ModuleType:
    """Import the module of a name (dashes or underscores); a ``ValueError`` lists the valid ones."""
    return importlib.import_module(f"{package}.{found(kind, name, path)}")


def found(kind: str, name: str, path: Iterable[str]) -> str:
    """The module of a name (dashes or underscores); a ``ValueError`` lists the valid ones."""
    valid = module_names(path)
    wanted = name.replace("-", "_")
    if wanted not in valid:
        raise unknown(kind, name, [module.replace("_", "-") for module in valid])
    return wanted
