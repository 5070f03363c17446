"""Unified diffs without context: read, count, apply; exactly, or not at all."""

import re
from dataclasses import dataclass, field

HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass
class Hunk:
    """At line `start` of the old file (from 1; behind it if nothing is removed), `removed` gives way to `added`."""

    start: int
    removed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)


def parse(text: str) -> dict[str, list[Hunk]]:
    """The hunks by file."""
    files: dict[str, list[Hunk]] = {}
    hunks: list[Hunk] = []
    left = (0, 0)
    for number, line in enumerate(text.splitlines(), 1):
        if left == (0, 0):
            if line.startswith("+++ "):
                hunks = files.setdefault(line[4:].split("\t")[0].removeprefix("b/"), [])
            elif found := HUNK.match(line):
                hunks.append(Hunk(int(found[1])))
                left = (int(found[2] or 1), int(found[4] or 1))
            elif not line.startswith(("--- ", "#")):
                raise ValueError(f"Line {number} is of no hunk: {line!r}.")
        elif line.startswith("-") and left[0]:
            hunks[-1].removed.append(line[1:])
            left = (left[0] - 1, left[1])
        elif line.startswith("+") and left[1]:
            hunks[-1].added.append(line[1:])
            left = (left[0], left[1] - 1)
        elif not line.startswith("\\"):
            raise ValueError(f"Line {number} does not fit the numbers of its hunk: {line!r}.")
    if left != (0, 0):
        raise ValueError("The last hunk is shorter than it says.")
    return files


def size(text: str) -> tuple[int, int]:
    """Lines added and lines removed, blank ones aside."""
    hunks = [hunk for found in parse(text).values() for hunk in found]
    added, removed = ([line for hunk in hunks for line in getattr(hunk, side)] for side in ("added", "removed"))
    return sum(bool(line.strip()) for line in added), sum(bool(line.strip()) for line in removed)


def apply(hunks: list[Hunk], text: str) -> str:
    """The new text of one file.

    Raises:
        ValueError: a line that is to be removed is not there.
    """
    lines = text.splitlines()
    for hunk in reversed(hunks):
        at = hunk.start - 1 if hunk.removed else hunk.start
        here = lines[at : at + len(hunk.removed)]
        if here != hunk.removed:
            raise ValueError(f"Line {hunk.start} should be {hunk.removed[:1]}; it is {here[:1]}.")
        lines[at : at + len(hunk.removed)] = hunk.added
    return "\n".join(lines) + "\n"
