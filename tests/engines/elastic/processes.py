"""Workers as processes of their own, to be killed, stopped and started again."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.signing.keys import write
from gradvote.engines.elastic.stores.server import RegisterServer
from gradvote.lab.train import checkpoint
from tests.engines.elastic.worker import work

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["tests.engines.elastic.warm"])
LIMIT, TICK = 40.0, 0.005


def keys_in(folder: Path, num: int) -> Path:
    """The folder in which workers find their certificates, and a register its own."""
    write_certificates(folder / "keys", num)
    return folder / "keys"


class Processes:
    """Worker k's n-th life writes the file k.n; all lives of all workers must tell of the same run.

    Options are those of `worker.work`. Each worker gets a certificate, unless `insecure`; with `signed`, keys as well.
    """

    def __init__(
        self,
        folder: Path,
        num: int,
        min_workers: int,
        steps: int,
        store: TCPStore | RegisterServer | str | None = None,
        **options: Any,
    ) -> None:
        self.folder, self.num, self.steps = folder, num, steps
        self.options = {"workers": num, "min_workers": min_workers, **options}
        signed = self.options.pop("signed", False)
        if not self.options.get("insecure"):
            self.options["keys"] = str(folder / "keys")
            if signed:
                write(folder / "keys", max(num, self.options["workers"]))
        if isinstance(store, RegisterServer | str):
            self.options["store"] = store if isinstance(store, str) else f"gradvote://{store.address}"
        own = None if isinstance(store, str) else store
        self.store = own or TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.processes: dict[int, BaseProcess] = {}
        self.lives: dict[int, int] = {}

    def start(self, worker: int, **options: Any) -> None:
        self.lives[worker] = self.lives.get(worker, -1) + 1
        if not self.options.get("insecure"):
            write_certificates(self.folder / "keys", max(worker + 1, self.num, 1))
        own = {**self.options, **options, "life": self.lives[worker]}
        process = FORKS.Process(target=work, args=(str(self.folder), self.store.port, worker, self.steps, own))
        process.start()
        self.processes[worker] = process

    def signal(self, worker: int, number: signal.Signals) -> None:
        pid = self.processes[worker].pid
        assert pid is not None
        os.kill(pid, number)
        if number == signal.SIGKILL:
            self.processes[worker].join()

    def freeze(self) -> None:
        """Stop all, so that nobody takes a step without another one; needs a deadline of many seconds."""
        for worker in self.processes:
            self.signal(worker, signal.SIGSTOP)
        self.until(lambda: all(stands_still(process) for process in self.processes.values()))

    def kill_all(self) -> None:
        """SIGKILL all at once, between the same two checkpoints of theirs: only so none of their memories is lost."""
        self.freeze()
        while len({checkpoint.load(self.folder / f"checkpoint.{w}")["step"] for w in self.processes}) > 1:
            for worker in self.processes:
                self.signal(worker, signal.SIGCONT)
            time.sleep(TICK)
            self.freeze()
        for worker in self.processes:
            self.signal(worker, signal.SIGKILL)

    def end(self) -> None:
        """Kill whoever is left."""
        for process in self.processes.values():
            process.kill()
            process.join()

    def lines(self, worker: int, key: str, life: int | None = None) -> list[Any]:
        """What a life of a worker has written about something."""
        path = self.folder / f"{worker}.{self.lives[worker] if life is None else life}"
        texts = path.read_text().splitlines() if path.exists() else []
        found = []
        for text in texts:
            with contextlib.suppress(ValueError):  # the last line of a killed process may be cut
                found.append(json.loads(text))
        return [line if key == "step" else line[key] for line in found if key in line]

    def at(self, worker: int) -> int:
        steps = self.lines(worker, "step")
        return int(steps[-1]["step"]) if steps else -1

    def until(self, condition: Callable[[], bool], what: str = "the condition") -> None:
        waited = 0.0  # whoever stops all processes for a while does not use up the limit
        while not condition():
            assert waited < LIMIT, f"waited too long for {what}: {self.last_words()}"
            before = time.monotonic()
            time.sleep(TICK)
            waited += min(time.monotonic() - before, 10 * TICK)

    def finish(self, *workers: int) -> None:
        """Wait for these workers' ends (all, unless given), and check that none of them failed."""
        for worker in workers or self.processes:
            self.until(lambda worker=worker: not self.processes[worker].is_alive(), f"worker {worker}")  # type: ignore[misc]
            assert self.processes[worker].exitcode == 0, f"worker {worker}: {self.last_words()}"

    def histories(self) -> list[dict[int, str]]:
        """The digest of the parameters by step, as each life of each worker has seen it."""
        lives = [(w, life) for w, last in self.lives.items() for life in range(last + 1)]
        return [{line["step"]: line["digest"] for line in self.lines(w, "step", life)} for w, life in lives]

    def check_alike(self) -> dict[int, str]:
        """All lives had the same parameters after every step; what these were."""
        known: dict[int, str] = {}
        for history in self.histories():
            for step, digest in history.items():
                assert known.setdefault(step, digest) == digest, f"parameters differ after step {step}"
        return known

    def gaps(self, worker: int) -> list[float]:
        """Seconds between the steps of a worker."""
        times = [line["at"] for line in self.lines(worker, "step")]
        return [b - a for a, b in pairwise(times)]

    def last_words(self) -> dict[int, Any]:
        return {
            w: (self.at(w), self.lines(w, "joined"), self.lines(w, "error"), process.exitcode)
            for w, process in self.processes.items()
        }


def stands_still(process: BaseProcess) -> bool:
    """Whether SIGSTOP has stopped the main thread, which trains."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@contextlib.contextmanager
def processes(folder: Path, num: int, min_workers: int, steps: int, **options: Any) -> Iterator[Processes]:
    """A crew of running workers, none of which outlives the test."""
    own = Processes(folder, num, min_workers, steps, **options)
    try:
        for worker in range(num):
            own.start(worker)
        yield own
    finally:
        own.end()
