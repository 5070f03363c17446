"""Finding the files of a package: a new data set or partition is one new file, with no registry to edit."""

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from gradvote.errors import unknown


def module_names(path: Iterable[str]) -> list[str]:
    """The sorted names of the public modules in a package's ``__path__``."""
    return sorted(module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))


def module_named(kind: str, name: str, package: str, path: Iterable[str]) -> ModuleType:
    """Import the module of a name (dashes or underscores); a ``ValueError`` lists the valid ones."""
    valid = module_names(path)
    wanted = name.replace("-", "_")
    if wanted not in valid:
        raise unknown(kind, name, [module.replace("_", "-") for module in valid])
    return importlib.import_module(f"{package}.{wanted}")


def summary(documented: object) -> str:
    """The first line of a docstring."""
    return (documented.__doc__ or "").strip().partition("\n")[0]
