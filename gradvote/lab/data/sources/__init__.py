"""The data sets: one file each, its name is the data set's, its `load(data_dir)` reads it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gradvote.arguments import checked, hints_of, parse_spec
from gradvote.discovery import Parts, spoilt
from gradvote.errors import unknown
from gradvote.sources import function_in, summary_of

if TYPE_CHECKING:
    from gradvote.lab.data.dataset import Data

_PARTS = Parts("data", "data set", __name__, __path__)


def names() -> list[str]:
    """The names of the data sets."""
    return _PARTS.names()


def describe(spec: str) -> str:
    """One line about a data set, NAME or NAME:key=value. Raises `ValueError` for an unknown name or option."""
    name, given = parse_spec(spec)
    file = _PARTS.find(name).file
    known = option_names(name) if given else []
    for key in given:
        if not known:
            raise ValueError(f"The data set {name} takes no options; leave out '{key}'.")
        if key not in known:
            raise unknown(f"option of the data set {name}", key, known)
    return summary_of(file)


def option_names(name: str) -> list[str]:
    """The options of a data set: what its `load` takes beside `data_dir`."""
    told = function_in(_PARTS.find(name).file, "load").options
    return [option for option in (hints_of(_loader(name)) if told is None else told) if option != "data_dir"]


def load(spec: str, data_dir: str | Path | None = None) -> "Data":
    """Read a data set into memory: NAME, or NAME:key=value,... with options of its own.

    Files are looked for in `data_dir` alone where it is given, otherwise in the folder named by
    GRADVOTE_DATA, then in `../shared/data` and `./data`. Raises `ValueError` for an unknown name or a
    damaged file, `DataNotFoundError` where files are absent, and `MissingExtra` where
    a package is.
    """
    describe(spec)
    name, given = parse_spec(spec)
    loader = _loader(name)
    return loader(data_dir, **checked(f"the data set {name}", given, hints_of(loader)))


def _loader(name: str) -> "Callable[..., Data]":
    loader: Callable[..., Data] | None = getattr(_PARTS.load(name), "load", None)
    if loader is None:
        raise spoilt(_PARTS.find(name), "data set", "it has no function load(data_dir)")
    return loader
