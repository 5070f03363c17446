"""What is written to disk: whole or not at all, never over somebody else's file, and as JSON that any reader takes."""

import json
import math
import os
from pathlib import Path
from typing import Any

PAGE_MARK = '<meta name="generator" content="gradvote">'
"""What stands in the head of every page that gradvote writes, so that it knows its own."""
_HEAD = 4096
_BY_NAME = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_text(path: Path, text: str) -> Path:
    """Write beside `path`, then put in its place: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def is_page(path: Path) -> bool:
    """Whether a file is a page that gradvote wrote."""
    try:
        with path.open("rb") as file:
            return PAGE_MARK.encode() in file.read(_HEAD)
    except OSError:
        return False


def check_page(path: Path) -> None:
    """Raise ValueError unless a page can be written to `path` without replacing anything but an older page of ours."""
    if (path.exists() or path.is_symlink()) and not is_page(path):
        raise ValueError(
            f"{path} is there and is no report of gradvote's, so it is not replaced. Move it away, or choose another "
            "place with --out or --name."
        )


def check_results(path: Path, key: str) -> None:
    """Raise ValueError where `path` holds something else than a JSON object, or a list of them, with that key."""
    if not (path.exists() or path.is_symlink()):
        return
    try:
        found = from_json(path.read_bytes())
    except (OSError, ValueError):
        found = None
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict) or key not in first:
        raise ValueError(
            f"{path} is there and holds no figures of this command, so it is not replaced. Move it away, or choose "
            "another --out."
        )


def to_json(value: object, indent: int | None = None) -> str:
    """JSON, in which numbers that JSON does not have are texts: "NaN", "Infinity", "-Infinity"."""
    return json.dumps(_named(value), indent=indent, allow_nan=False)


def from_json(text: str | bytes) -> Any:
    """What JSON holds.

    Raises:
        ValueError: it is cut short, nested too deeply, has a number of thousands of digits, or is no JSON at all.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("It is nested too deeply.") from error


def number(value: object) -> float | None:
    """A number as `to_json` wrote it, or as older versions did (a bare NaN); None for everything else."""
    if isinstance(value, str):
        return _BY_NAME.get(value)
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return math.inf if isinstance(value, int) and value > 0 else -math.inf


def _named(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _named(own) for key, own in value.items()}
    return [_named(own) for own in value] if isinstance(value, list | tuple) else value
