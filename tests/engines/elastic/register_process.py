"""A register as a process of its own, to be stopped, killed, and given a full disk."""

import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.environment import SECRET
from gradvote.engines.elastic.net.authentication import REGISTER, Credentials
from gradvote.engines.elastic.stores.opening import storage_at

WITHOUT_END = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class RegisterProcess:
    """`gradvote register` with a journal; with `keys`, or with a secret that it puts into the environment."""

    def __init__(self, folder: Path, keys: Path | None) -> None:
        self.journal, self.keys = folder / "journal", keys
        if keys is None:
            os.environ[SECRET] = secrets.token_hex(16)
        self.address = ""
        self.start()

    def start(self) -> None:
        """At the same port as before, as soon as it serves."""
        command = [sys.executable, "-m", "gradvote", "register", "--port", "0", "--journal", str(self.journal)]
        command += [] if self.keys is None else ["--keys", str(self.keys)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        before, self.address = self.address, self._process.stdout.readline().removeprefix("gradvote register: ").strip()
        assert self.address.startswith("gradvote://") and before in ("", self.address)

    def client(self) -> Register:
        """To ask it as the register's own process may."""
        credentials = None if self.keys is None else Credentials.load(self.keys, REGISTER)
        return Register(storage_at(self.address, 10.0, os.environ.get(SECRET, "").encode(), credentials))

    def hang(self) -> None:
        self._process.send_signal(SIGSTOP)

    def wake(self) -> None:
        self._process.send_signal(SIGCONT)

    def fill(self) -> None:
        """Nothing more can be written to the journal."""
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (self.journal.stat().st_size, WITHOUT_END[1]))

    def make_room(self) -> None:
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, WITHOUT_END)

    def kill(self) -> None:
        """SIGKILL, also where it hangs."""
        self._process.kill()
        self._process.wait()

    def memory(self) -> int:
        """Its resident memory in kB; 0 while it is not at work."""
        status = Path(f"/proc/{self._process.pid}/status")
        lines = status.read_text().splitlines() if self._process.poll() is None else []
        return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


@contextmanager
def serving(folder: Path, keys: Path | None) -> Iterator[RegisterProcess]:
    """A register, which does not outlive the block."""
    server = RegisterProcess(folder, keys)
    try:
        yield server
    finally:
        server.kill()
