"""The one registry: what the folders of parts hold, ours and those of installed packages, read from their sources.

Nothing is imported, so that names and help come at once: `gradvote list`, `--help` and the answer to a typo need names,
first lines of docstrings and options, but not PyTorch. Another package's parts are found by its entry points:

    [project.entry-points."gradvote.plugins"]
    anything = "its_package"        # folders algorithms/, faults/, ... in it, or one of these: "its_package.faults"

What is broken in such a package is a sentence in `broken`, and stops nothing that does not use it.
"""

import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gradvote.errors import MissingExtra, unknown
from gradvote.sources import file_of, module_names, tree_of

GROUP = "gradvote.plugins"
KINDS = ("aggregators", "algorithms", "codecs", "data", "faults", "models", "partitions", "schedules", "transforms")
"""The names of folders of parts in a plugin."""
NAMED = {
    "algorithms": "algorithms",
    "data": "lab/data/sources",
    "faults": "faults",
    "partitions": "partitions",
    "schedules": "lab/train/schedules",
}
"""Our own folders of those whose files' names are the names of their parts."""


@dataclass(frozen=True)
class Found:
    """One file of parts: its name on the command line, its module and source, and the package it is of ("": ours)."""

    name: str
    module: str
    file: Path
    origin: str = ""


@dataclass(frozen=True)
class Broken:
    """What is wrong with a plugin: the kind and name of the part ("" for the whole plugin), and a sentence."""

    kind: str
    name: str
    sentence: str


class Parts:
    """The parts of a kind, one per file: our own folder, and the folders of installed packages."""

    def __init__(self, kind: str, word: str, package: str, path: Iterable[str]) -> None:
        self._kind, self._word, self._package, self._path = kind, word, package, path

    def names(self) -> list[str]:
        """The names of all, sorted, as written on the command line."""
        return sorted(found.name for found in self.all())

    def all(self) -> list[Found]:
        """Ours, then those of plugins."""
        return [*self._own().values(), *plugged(self._kind)]

    def find(self, name: str) -> Found:
        """The part of a name (dashes or underscores); a `ValueError` lists the valid ones, or says what is broken."""
        own = self._own()
        if (wanted := name.replace("-", "_")) in own:
            return own[wanted]
        for found in plugged(self._kind):
            if found.name.replace("-", "_") == wanted:
                return found
        check_broken(self._kind, wanted)
        raise unknown(self._word, name, self.names())

    def load(self, name: str) -> ModuleType:
        """Import the module of a part; that of a plugin may fail, which a `ValueError` says."""
        return imported(self.find(name), self._word)

    def _own(self) -> dict[str, Found]:
        return {
            name: Found(name.replace("_", "-"), f"{self._package}.{name}", file_of(self._path, name))
            for name in module_names(self._path)
        }


def imported(found: Found, word: str) -> ModuleType:
    """The module of a part.

    Raises:
        ValueError: it is a plugin's and cannot be imported.
    """
    if not found.origin:
        return importlib.import_module(found.module)
    try:
        return importlib.import_module(found.module)
    except MissingExtra:
        raise
    except (Exception, SystemExit) as error:
        raise spoilt(found, word, f"it cannot be imported ({type(error).__name__}: {error})") from error


def spoilt(found: Found, word: str, why: str) -> ValueError:
    """The error for a part that is not what it should be."""
    whose = f" of the package {found.origin}" if found.origin else ""
    mend = "update that package, or uninstall it" if found.origin else f"mend {found.file.name}"
    return ValueError(f"The {word} '{found.name}'{whose} cannot be used: {why}; {mend}.")


def plugged(kind: str) -> list[Found]:
    """The parts of a kind that installed packages bring, in the order of the packages' names."""
    return list(_plugins()[0].get(kind, {}).values())


def broken() -> tuple[Broken, ...]:
    """What is wrong with installed plugins; empty if nothing is."""
    return _plugins()[1]


def check_broken(kind: str, name: str) -> None:
    """Raise ValueError, with its sentence, for a plugin's part that cannot be read."""
    for problem in broken():
        if (problem.kind, problem.name) == (kind, name.replace("-", "_")):
            raise ValueError(problem.sentence)


def forget() -> None:
    """Look for installed packages anew."""
    _plugins.cache_clear()


@functools.cache
def _plugins() -> tuple[dict[str, dict[str, Found]], tuple[Broken, ...]]:
    """The files of parts by kind and module name, and what is broken."""
    from importlib.metadata import entry_points  # noqa: PLC0415  # 50 ms that our own names do not need

    parts: dict[str, dict[str, Found]] = {kind: {} for kind in KINDS}
    problems: list[Broken] = []
    points = {(point.dist.name if point.dist else "?", point.value, point.name) for point in entry_points(group=GROUP)}
    for origin, module, point in sorted(points):
        last, folders = module.rpartition(".")[2], _folders(module)
        if not folders:
            problems.append(Broken("", "", f"The plugin '{point}' of the package {origin} names {module}, {_MISSING}"))
        for folder in folders:
            inside = [(last, module, folder)] if last in KINDS else [(k, f"{module}.{k}", folder / k) for k in KINDS]
            for kind, package, place in inside:
                _read(kind, package, place, origin, parts[kind], problems)
    return parts, tuple(problems)


_MISSING = "which is no folder of a package that can be found; update that package, or uninstall it."


def _folders(module: str) -> list[Path]:
    """The folders of a package, found without importing anything."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    places = [Path(place, *inner) for place in (spec.submodule_search_locations or () if spec else ())]
    return [place for place in places if place.is_dir()]


def _read(kind: str, package: str, folder: Path, origin: str, into: dict[str, Found], problems: list[Broken]) -> None:
    """Put the files of a plugin's folder among the parts of a kind; those that cannot be read among the problems."""
    for name in module_names([str(folder)]):
        what = f"The part {kind}/{name} of the package {origin}"
        try:
            file = file_of([str(folder)], name)
            tree_of(file)
        except (StopIteration, OSError, SyntaxError, ValueError) as error:
            why = f"its source cannot be read ({type(error).__name__}: {error})"
            problems.append(Broken(kind, name, f"{what} cannot be used: {why}; update that package, or uninstall it."))
            continue
        owner = into[name].origin if name in into else "gradvote" if name in _own_names(kind) else None
        if owner is not None:
            sentence = f"{what} is left out, as {owner} has one of that name; uninstall that package, or rename it."
            problems.append(Broken(kind, "", sentence))
            continue
        into[name] = Found(name.replace("_", "-"), f"{package}.{name}", file, origin)


def _own_names(kind: str) -> list[str]:
    return module_names([str(Path(__file__).parent / NAMED[kind])]) if kind in NAMED else []


def on_first_use(package: dict[str, Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (given by its `globals()`) whose names are imported when they are first used.

    `homes` gives the module of each name; the package's own files can be had by their names, too.
    """
    name_of_package = package["__name__"]

    def first_use(name: str) -> Any:
        if name in homes:
            package[name] = getattr(importlib.import_module(homes[name]), name)
            return package[name]
        if any(name == module.name for module in pkgutil.iter_modules(package["__path__"])):
            return importlib.import_module(f"{name_of_package}.{name}")
        raise AttributeError(f"module '{name_of_package}' has no attribute '{name}'")

    return first_use
