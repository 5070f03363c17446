"""Machine code on disk: a cache that cannot be read or written costs time, and never a run."""

import logging
import os
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import runtime

LOG = logging.getLogger("gradvote.kernels")
_said: set[str] = set()
_TOKEN = uuid.uuid4().hex[:8]


class Kept:
    """numba's cache of one kernel, whose failures are no errors: it is then compiled, and not kept."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        file: Any = getattr(cache, "_cache_file", None)
        if hasattr(file, "_data_name"):
            # numba numbers its files by what its index says: two processes that compile two signatures at once take one
            # number, and the index may then name the code of the other one, for good.
            plain = file._data_name
            file._data_name = lambda number: _of_this_process(plain(number))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The machine code for a signature, or None if it is to be compiled."""
        try:
            found = self._load(signature, target)
        except OSError as error:
            self._warn("read", error.strerror or str(error))
            found = None
        except Exception:  # what a damaged file raises is for pickle and llvmlite to choose
            found = None
        if found is None:
            _once("compiling", lambda: LOG.info("Compiling kernels for this processor, which takes some seconds."))
        return found

    def _load(self, signature: Any, target: Any) -> Any:
        """What numba's own method does, without first loading all that it can compile: the code is there already.

        That takes two thirds of a process's first step, scipy among it. Where numba has changed, its own method serves.
        """
        load = getattr(self._cache, "_load_overload", None)
        ready = getattr(getattr(runtime, "rtsys", None), "initialize", None)
        if load is None or ready is None or os.name == "nt":  # there numba also looks after files in use
            return self._cache.load_overload(signature, target)
        ready(target)
        return load(signature, target)

    def save_overload(self, signature: Any, code: Any) -> None:
        """Keep machine code, if there is room."""
        try:
            self._cache.save_overload(signature, code)
        except OSError as error:
            self._warn("written", error.strerror or str(error))

    def _warn(self, verb: str, why: str) -> None:
        text = (
            f"The cache of compiled kernels in {self._cache.cache_path} cannot be {verb} ({why}), so each process "
            "compiles them anew. Mend that, or name another folder in NUMBA_CACHE_DIR."
        )
        _once("cache", lambda: warnings.warn(text, stacklevel=2))


def _of_this_process(name: str) -> str:
    path = Path(name)
    return f"{path.stem}.{os.getpid()}-{_TOKEN}{path.suffix}"


def _once(what: str, say: Callable[[], None]) -> None:
    """Say something once in a process."""
    if what not in _said:
        _said.add(what)
        say()
