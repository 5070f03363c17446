"""Starts the workers of an elastic run, and those again that die, and serves the register that they agree through."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradvote.engines.common.signals import PARENT, signals_call
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.environment import (
    HOST,
    INSECURE,
    KEYS,
    MIN_WORKERS,
    NUMBER,
    SECRET,
    STORE,
    WORKERS,
    signs,
    store_of,
)
from gradvote.engines.elastic.net.addresses import bare
from gradvote.engines.elastic.net.authentication import REGISTER, Credentials
from gradvote.engines.elastic.refusals import FOLDER, forget_joined, has_joined, taken
from gradvote.engines.elastic.stores.opening import SERVED, checked_secret
from gradvote.engines.elastic.stores.server import OwnTable, serve

POLL, LEAVING = 0.05, 30.0
EARLY = 10.0
EARLY_DEATHS, REFUSALS = 3, 2

RESTARTS = "GRADVOTE_RESTARTS"
OUTLIVED = (
    "gradvote launch: Ctrl-C or SIGTERM ends the workers, too. Where this process is killed (kill -9), they go on "
    "among themselves, without its register: nobody can be left out or let in until one is started with its --journal."
)

Say = Callable[[str], None]


@dataclass
class _Life:
    """A worker's present process, and how its earlier ones went."""

    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)
    restarts: int = 0
    early_deaths: int = 0
    refusals: int = 0
    late: bool = False


class Launcher:
    """`workers` processes of one command. A worker that dies is started again, up to `max_restarts` times.

    A worker that dies three times in a row within ten seconds of its start is given up, and so is one that is refused
    twice in a row, for a mistake in its script, say: what was said to it is said again. The run has failed when fewer
    than `min_workers` can still be at work or have finished. When it has ended, who took part is left to evaluate and
    save in its own time, and fewer than `min_workers` that come to their end without an error are a failure, too.
    SIGTERM and Ctrl-C are passed on as SIGTERM: the workers finish their step and leave; a second one ends them at
    once. Connections are encrypted, and who is at their ends is proven, by certificates that are made for this run, in
    a folder of its own that only this user can read; with `keys`, a folder of `gradvote keys`, by those that are there,
    and all ballots are signed. `insecure`: neither, whatever `host` is. `outlived`: workers go on where this process is
    killed; otherwise those that call `stopping.end_with_parent` leave then, too.

    The register listens at `host` alone, and hears who has such a certificate (`insecure`: who has a secret that it
    gives the workers). With a `journal`, a
    launcher that is started again with the same file goes on where the one before it was: processes that are still at
    work are replaced by its own, which learn from them. `store` is the address of another register or of an etcd,
    which is then used in place of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        min_workers: int,
        *,
        max_restarts: int = 100,
        host: str = "127.0.0.1",
        keys: Path | None = None,
        journal: Path | None = None,
        store: str | None = None,
        insecure: bool = False,
        outlived: bool = False,
        say: Say = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        if insecure and keys is not None:
            raise ValueError("insecure is for runs without keys; leave out --keys or --insecure.")
        if workers < 1 or max_restarts < 0:
            raise ValueError(
                f"There must be at least 1 worker, and max_restarts at least 0; got {workers} and {max_restarts}."
            )
        if not 1 <= min_workers <= workers:
            raise ValueError(f"min_workers must be between 1 and workers ({workers}); got {min_workers}.")
        if not command:
            raise ValueError("There is nothing to launch; name a Python script: gradvote launch --workers 3 train.py")
        self._command, self._say, self.max_restarts = list(command), say, max_restarts
        self.workers, self.min_workers, self._stopping = workers, min_workers, False
        self._made: tempfile.TemporaryDirectory[str] | None = None
        folder = None if insecure else self._keys(keys, journal)
        self._server = None if store else serve(host, 0, journal, _given_secret(), folder)
        self.environment = {
            HOST: bare(host), WORKERS: str(workers), MIN_WORKERS: str(min_workers), **self._store(store),
        }  # fmt: skip
        if not outlived:
            self.environment[PARENT] = str(os.getpid())
        self.environment |= {INSECURE: "1"} if folder is None else {KEYS: str(folder)}
        own = store_of(store, LEAVING, folder, REGISTER) if self._server is None else OwnTable(self._server.table)
        self._register = Register(own, patience=LEAVING)
        self._ended_at: float | None = None
        self.lives: dict[int, _Life] = {}
        self.finished: set[int] = set()

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Until all workers have finished: 0; 1 where too few were left; 130 where it was stopped."""
        address = self.environment[STORE].removeprefix(SERVED)
        self._say(f"gradvote launch: {self.workers} workers, at least {self.min_workers}; register at {address}")
        if KEYS not in self.environment:
            self._say("gradvote launch: --insecure: anyone who reaches the workers' ports can speak to them")
        if PARENT not in self.environment:
            self._say(OUTLIVED)
        with tempfile.TemporaryDirectory(prefix="gradvote-") as folder, signals_call(self.stop):
            self.environment[FOLDER] = folder
            try:
                for number in range(self.workers):
                    self.lives[number] = _Life(self._start(number, 0))
                while self.lives and not self._stopping and self._enough():
                    self._look()
                    meanwhile()
                    time.sleep(POLL)
                return self._end()
            finally:
                for life in self.lives.values():
                    life.process.kill()
                self._close()

    def stop(self) -> None:
        """Ask all workers to leave after their step."""
        self._stopping = True

    def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._made is not None:
            self._made.cleanup()

    def _store(self, given: str | None) -> dict[str, str]:
        """What workers are told of the register."""
        if self._server is None:
            return {STORE: given or ""}
        access = self._server.access
        secret = {SECRET: access.decode()} if isinstance(access, bytes) else {}
        return {STORE: SERVED + self._server.address, **secret}

    def _keys(self, given: Path | None, journal: Path | None) -> Path:
        """The folder with everybody's certificates: the one that was given, or one of this run's own.

        That lies beside the journal, for who is launched again with it, or else in a place that is removed at the end.
        """
        if given is not None:
            check_keys(given, self.workers)
            return given.resolve()
        from gradvote.engines.elastic.net import certificates  # noqa: PLC0415  # an extra, imported when it is used

        if journal is not None:
            folder = journal.resolve().with_name(f"{journal.name}.keys")
            folder.mkdir(mode=0o700, exist_ok=True)
        else:
            self._made = tempfile.TemporaryDirectory(prefix="gradvote-keys-")
            folder = Path(self._made.name)
        certificates.write_certificates(folder, self.workers)
        (folder / certificates.SECRET).unlink(missing_ok=True)  # nobody else becomes a worker of this run
        return folder

    def _enough(self) -> bool:
        return self._ended_at is not None or len(self.lives) + len(self.finished) >= self.min_workers

    def _start(self, number: int, restarts: int) -> subprocess.Popen[bytes]:
        environment: Mapping[str, str] = {
            "OMP_NUM_THREADS": "1", **os.environ, **self.environment, NUMBER: str(number),
            RESTARTS: str(restarts),
        }  # fmt: skip
        forget_joined(Path(self.environment[FOLDER]), number)
        return subprocess.Popen(self._command, env=environment, start_new_session=True)

    def _look(self) -> None:
        codes = {number: life.process.poll() for number, life in self.lives.items()}
        gone = self.finished or any(code is not None for code in codes.values())
        if gone and self._ended_at is None and (self._is_left_by_too_many() or self._has_ended()):
            self._ended_at = time.monotonic()
        if self._ended_at is not None and time.monotonic() > self._ended_at + EARLY:
            self._end_latecomers()
        for number, code in codes.items():
            life = self.lives[number]
            if code == 0:
                self.finished.add(number)
                del self.lives[number]
            elif code is not None and self._ended_at is not None:
                if not life.late:
                    text = f"worker {number} {_how(code)}, when others were done; it is not started again"
                    self._say(f"gradvote launch: {text}")
                del self.lives[number]
            elif code is not None:
                self._again(number, life, _how(code))

    def _end_latecomers(self) -> None:
        """Who has taken part may evaluate and save for as long as it likes; who came too late would wait in vain."""
        for number, life in self.lives.items():
            if not life.late and not has_joined(Path(self.environment[FOLDER]), number):
                life.late = True
                self._say(f"gradvote launch: worker {number} was started too late to take part, and is ended")
                life.process.terminate()

    def _is_left_by_too_many(self) -> bool:
        """Whether those that are left can take no step, as the others are done: all have stopped early, say."""
        return bool(self.finished) and len(self.lives) < self.min_workers

    def _has_ended(self) -> bool:
        try:
            return self._register.ended() is not None
        except RegisterLost:  # of another process; it is asked again
            return False

    def _again(self, number: int, life: _Life, how: str) -> None:
        early, refusal = time.monotonic() - life.started < EARLY, taken(Path(self.environment[FOLDER]), number)
        life.early_deaths = life.early_deaths + 1 if early else 0
        life.refusals = life.refusals + 1 if refusal else 0
        if life.refusals >= REFUSALS:
            how = f"was refused again, as it will be until that is mended ({refusal})"
        if life.refusals >= REFUSALS or life.restarts >= self.max_restarts or life.early_deaths >= EARLY_DEATHS:
            self._say(f"gradvote launch: worker {number} {how}; it is not started again after {life.restarts} restarts")
            del self.lives[number]
            return
        life.restarts += 1
        self._say(f"gradvote launch: worker {number} {how}; started again ({life.restarts})")
        life.process, life.started = self._start(number, life.restarts), time.monotonic()

    def _end(self) -> int:
        if not self.lives and len(self.finished) >= self.min_workers:
            return 0
        if not self._stopping:
            what = "are left" if self._ended_at is None else "have ended without an error"
            self._say(f"gradvote launch: fewer than {self.min_workers} workers {what}; the run has failed")
        for life in self.lives.values():
            life.process.terminate()
        until = time.monotonic() + LEAVING
        for number, life in self.lives.items():
            try:
                life.process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                text = f"worker {number} had not left {LEAVING:.0f} s after it was asked to, and is killed"
                self._say(f"gradvote launch: {text}")
                life.process.kill()
        return 130 if self._stopping else 1


def check_keys(folder: Path, workers: int) -> None:
    """Raise ValueError unless the folder has the keys of all workers, and of the register."""
    if signs(folder):
        from gradvote.engines.elastic.signing.keys import Keys  # noqa: PLC0415  # an extra, imported when it is used

        for number in range(workers):
            Keys.load(folder, number)
    for number in (REGISTER, *range(workers)):
        Credentials.load(folder, number)


def _given_secret() -> str:
    """The secret of the environment; empty where there is none."""
    text = os.environ.get(SECRET, "")
    return checked_secret(text).decode() if text else ""


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
