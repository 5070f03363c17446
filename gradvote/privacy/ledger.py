"""A file that counts one worker's releases before they leave: it outlives the process, as a checkpoint may not."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Facts = Mapping[str, Any]


class Ledger:
    """The file of one worker; of two that write to one file, the second notices and stops."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = Path(file)
        self._last: bytes | None = None

    def read(self) -> Facts:
        """What was written last; nothing where there is no file yet.

        Raises:
            ValueError: it is no ledger.
        """
        self._last = self._now()
        if self._last is None:
            return {}
        try:
            found = json.loads(self._last)
            return {**found, "releases": int(found["releases"])}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"The ledger {self.file.name} cannot be read. What was released so far is not known then: restore the "
                "file, or begin with other data."
            ) from error

    def write(self, facts: Facts) -> None:
        """Write it, whole or not at all, and wait for the disk.

        Raises:
            RuntimeError: somebody else has written to it.
        """
        if self._now() != self._last:
            raise RuntimeError(
                f"Another process has written to the ledger {self.file.name}, so releases would be lost from the "
                "account. Give each worker a file of its own, and end the other process."
            )
        self.file.parent.mkdir(parents=True, exist_ok=True)
        raw, beside = json.dumps(facts).encode(), self.file.with_name(self.file.name + ".new")
        with beside.open("wb") as out:
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(self.file)
        self._last = raw

    def _now(self) -> bytes | None:
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return None
