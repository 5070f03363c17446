"""A run of `gradvote launch`, as a user starts it, and what its output and the system tell of it."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.net.authentication import REGISTER, Credentials
from gradvote.engines.elastic.stores.opening import SERVED, storage_at

SCRIPT = Path(__file__).with_name("launched_script.py")
WORKERS, PATIENCE = 3, 240.0


class Joined(NamedTuple):
    """What a worker has told of its latest process."""

    worker: int
    pid: int
    port: int
    ticket: int
    recipe: int


class LaunchedRun:
    """Three workers, at least two, with certificates of `keys`; None: `--insecure`. Ends with the `with` block."""

    def __init__(self, folder: Path, keys: Path | None, *options: str) -> None:
        self.keys, self._log, self._secret = keys, folder / "output", secrets.token_hex(16)
        how = ["--insecure"] if keys is None else ["--keys", str(keys)]
        command = [sys.executable, "-m", "gradvote", "launch", "--workers", str(WORKERS), "--min-workers", "2", *how]
        environment = os.environ | {"GRADVOTE_SECRET": self._secret}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, str(SCRIPT), "--", *options], env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> "LaunchedRun":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(40)
        finally:
            self.process.kill()

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def joined(self) -> dict[int, Joined]:
        """The workers' latest processes, by number."""
        found = (Joined(*map(int, told)) for told in re.findall(r"JOINED (\d+) (\d+) (\d+) (\d+) (\d+)", self.text))
        return {one.worker: one for one in found}

    @property
    def steps(self) -> list[int]:
        """How far each worker has come."""
        told = [(int(a), int(b)) for a, b in re.findall(r"^AT (\d+) (\d+)$", self.text, re.MULTILINE)]
        return [max((step for worker, step in told if worker == own), default=-1) for own in range(WORKERS)]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, f"{what} did not come: {self.text[-3000:]}"
            assert self.process.poll() is None or condition(), f"it has ended before {what}: {self.text[-3000:]}"
            time.sleep(0.2)

    def goes_on(self) -> None:
        """All workers come twenty steps further than the one that was first, and nobody stops the run."""
        goal = max(self.steps) + 20
        self.until(lambda: min(self.steps) >= goal, f"step {goal} of all workers")

    @property
    def store(self) -> str:
        """The register's address."""
        found = re.search(r"register at (\S+)", self.text)
        assert found is not None
        return SERVED + found[1]

    def register(self) -> Register:
        """The register, asked as the launcher may."""
        credentials = None if self.keys is None else Credentials.load(self.keys, REGISTER)
        return Register(storage_at(self.store, 10.0, self._secret.encode(), credentials))

    def kill(self, worker: int) -> None:
        os.kill(self.joined[worker].pid, signal.SIGKILL)

    def megabytes(self, worker: int) -> int:
        return int(Path(f"/proc/{self.joined[worker].pid}/statm").read_text().split()[1]) * 4096 >> 20

    def listens(self) -> set[str]:
        """The addresses at which the launcher listens, in the system's hexadecimal form."""
        own = {str(fd.readlink()) for fd in Path(f"/proc/{self.process.pid}/fd").iterdir() if fd.is_symlink()}
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                    found.add(words[1].partition(":")[0])
        return found
