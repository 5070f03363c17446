"""Machine code that cannot be kept on disk: the first call works all the same, and one warning says so."""

import errno
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

from gradvote.kernels.cpu import kept_code
from gradvote.kernels.cpu.jit import kernel
from gradvote.kernels.cpu.kept_code import Kept


def _plus_one(x: Any) -> Any:
    return x + 1


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_code, "_said", set())


def failing(verb: str, error: Exception) -> Any:
    """A cache that fails when it is to load or to save."""

    def refuse(*_: Any) -> None:
        raise error

    plain = {"load_overload": lambda *_: None, "save_overload": lambda *_: None, "cache_path": "there"}
    return SimpleNamespace(**{**plain, f"{verb}_overload": refuse})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("verb", ["load", "save"])
def test_a_folder_that_fails_at_the_first_call(verb: str, number: int) -> None:
    """Full, forbidden, read-only, over quota."""
    one, two = (kernel(type(_plus_one)(_plus_one.__code__, globals(), f"{verb}_{number}_{i}")) for i in (1, 2))
    for compiled in (one, two):
        compiled._cache = Kept(failing(verb, OSError(number, os.strerror(number))))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert one(np.int64(1)) == 2 and two(2.5) == 3.5
    [warning] = [w for w in caught if "cache of compiled kernels" in str(w.message)]
    assert os.strerror(number) in str(warning.message) and "NUMBA_CACHE_DIR" in str(warning.message)


def test_a_damaged_file_is_compiled_anew() -> None:
    compiled = kernel(type(_plus_one)(_plus_one.__code__, globals(), "damaged"))
    compiled._cache = Kept(failing("load", EOFError("Ran out of input")))
    assert compiled(np.int64(1)) == 2


def test_processes_that_compile_at_once_do_not_take_each_others_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks of one machine, in their first step: both see an empty index, and the one that was first writes last."""
    one, two, later = (IndexDataCacheFile(str(tmp_path), "kernel", "stamp") for _ in range(3))
    for file in (one, two):
        Kept(SimpleNamespace(_cache_file=file))
    empty, write, waiting = two._load_index(), one._save_data, list[Any]()
    monkeypatch.setattr(two, "_load_index", lambda: empty)
    monkeypatch.setattr(one, "_save_data", lambda *given: waiting.append(given))
    one.save("float32", "code of float32")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    two.save("float64", "code of float64")
    write(*waiting[0])
    assert later.load("float64") == "code of float64" and later.load("float32") in (None, "code of float32")


def test_compiling_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="gradvote"):
        for i in (1, 2):
            compiled = kernel(type(_plus_one)(_plus_one.__code__, globals(), f"told_{i}"))
            compiled._cache = Kept(failing("load", EOFError()))
            compiled(np.int64(1))
    assert [r.message for r in caplog.records if "Compiling" in r.message] == [caplog.records[0].message]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_forbidden_folder(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    code = "import torch; from gradvote import kernels; print(kernels.pack_signs(torch.ones(64), True).tolist())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[-1]"


def test_kept_code_is_loaded_without_all_that_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba's own method first makes its compiler ready, which takes each process longer than the rest of a step."""
    ready: list[object] = []
    monkeypatch.setattr(kept_code.runtime.rtsys, "initialize", ready.append)
    cache = SimpleNamespace(_load_overload=lambda signature, target: (signature, target))
    assert Kept(cache).load_overload("signature", "target") == ("signature", "target")
    assert ready == ["target"]


@pytest.mark.slow
def test_a_process_that_finds_code_imports_no_compiler_and_counts_alike(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from gradvote import kernels; x = torch.arange(-640.0, 640.0).view(5, 256) % 7 - 3;"
        "words = kernels.pack_signs(x, True); valid = torch.ones(5, 1, dtype=torch.bool);"
        "won, _ = kernels.majority(words[:, None], None, valid, words[:1]); print(words.tolist(), won.tolist());"
        "print('numba.np.arraymath' in sys.modules)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    cold, warm = (run.stdout.splitlines() for run in runs)
    assert cold[0] == warm[0] and (cold[1], warm[1]) == ("True", "False")
