"""Faults at random for as long as asked; after each one the run must go on, and all members must be alike.

    scripts/soak --minutes 60 --seed 0

Every fault is a line of the log. The invariants: whoever took a step has the parameters of all others that took it; the
run goes on within a minute of any fault; no process grows without end. Not played here: cut and slowed links, a full
disk, jumps of the clock.
"""

import argparse
import collections
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from tests.engines.elastic.crew import Crew, crew

WORKERS, QUORUM, PATIENCE = 5, 3, 60.0
LIES = ("altered", "short", "long", "huge", "garbage", "replay", "future")
WEIGHTS = {"kill": 4, "stop": 4, "lie": 4, "nan": 3, "kill all": 1}
GROWTH_KB = 200_000


class Soak:
    """A crew under fire."""

    def __init__(self, run: Crew, seed: int, log: Path) -> None:
        self.run, self.random, self.log = run, random.Random(seed), log
        self.counts: collections.Counter[str] = collections.Counter()
        self.known: dict[int, str] = {}
        self.offsets: dict[Path, int] = {}
        self.checked = 0
        self.latest = -1

    def fault(self) -> None:
        """One fault, and proof that the run survives it."""
        kind = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        worker = self.random.randrange(WORKERS)
        detail = FAULTS[kind](self, worker)
        self.counts[kind] += 1
        line = {"kind": kind, "worker": worker, "detail": detail, "step": self.latest, "memory_kb": self.memory()}
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        before, end = self.read(), time.monotonic() + PATIENCE
        while self.read() < before + 5:
            assert time.monotonic() < end, f"no step within {PATIENCE:g} s of {line}: {self.run.last_words()}"
            time.sleep(0.02)

    def read(self) -> int:
        """Compare all new lines; the latest step of the run."""
        for path in sorted(self.run.folder.glob("[0-9]*.[0-9]*")):
            with path.open("rb") as file:
                file.seek(self.offsets.get(path, 0))
                for raw in file.read().splitlines(keepends=True):
                    if raw.endswith(b"\n"):
                        self.offsets[path] = self.offsets.get(path, 0) + len(raw)
                        self.compare(json.loads(raw), path)
        return self.latest

    def compare(self, line: dict[str, object], path: Path) -> None:
        assert "error" not in line, f"{path.name}: {line}"
        if "digest" in line:
            step, digest = int(str(line["step"])), str(line["digest"])
            assert self.known.setdefault(step, digest) == digest, f"{path.name}: parameters differ after step {step}"
            self.checked += 1
            self.latest = max(self.latest, step)

    def memory(self) -> int:
        """The largest process's memory."""
        sizes = [0]
        for process in self.run.processes.values():
            status = Path(f"/proc/{process.pid}/status")
            if process.is_alive() and status.exists():
                sizes += [int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith("VmRSS")]
        return max(sizes)

    def restart(self, worker: int, **options: object) -> None:
        self.run.signal(worker, SIGKILL)
        time.sleep(self.random.uniform(0, 1))
        self.run.start(worker, **options)


def kill(soak: Soak, worker: int) -> str:
    soak.restart(worker)
    return ""


def stop(soak: Soak, worker: int) -> str:
    seconds = soak.random.uniform(0.1, 3)
    soak.run.signal(worker, SIGSTOP)
    time.sleep(seconds)
    soak.run.signal(worker, SIGCONT)
    return f"{seconds:.2f} s"


def lie(soak: Soak, worker: int) -> str:
    how, start = soak.random.choice(LIES), soak.read()
    soak.restart(worker, lie=how, lies=list(range(start, start + 2000, 40)))
    return how


def nan(soak: Soak, worker: int) -> str:
    soak.restart(worker, nan=True)
    return ""


def kill_all(soak: Soak, worker: int) -> str:
    """Also in the middle of writing checkpoints; what was taken after the last one is taken again, by other members."""
    for each in range(WORKERS):
        soak.run.signal(each, SIGKILL)
    soak.read()
    soak.known, soak.latest = {}, -1
    for each in range(WORKERS):
        soak.run.start(each)
    return ""


FAULTS: dict[str, Callable[[Soak, int], str]] = {
    "kill": kill, "stop": stop, "lie": lie, "nan": nan, "kill all": kill_all,
}  # fmt: skip


def main(minutes: float, seed: int, log: Path) -> None:
    log.unlink(missing_ok=True)
    options = {"deadline": 0.5, "grace": 0.1, "timeout": 120.0, "gather": 10.0, "pace": 0.005, "checkpoints": True}
    with tempfile.TemporaryDirectory() as folder, crew(Path(folder), WORKERS, QUORUM, 10**9, **options) as run:
        soak, end = Soak(run, seed, log), time.monotonic() + 60 * minutes
        run.until(lambda: soak.read() >= 10)
        first = soak.memory()
        while time.monotonic() < end:
            soak.fault()
            assert soak.memory() < first + GROWTH_KB, f"a process grew from {first} to {soak.memory()} kB"
        print(f"{sum(soak.counts.values())} faults survived in {minutes:g} minutes, seed {seed}: {dict(soak.counts)}")
        print(f"{soak.checked} comparisons of parameters, none different; memory {first} kB, then {soak.memory()} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    arguments = parser.parse_args()
    main(arguments.minutes, arguments.seed, arguments.log)
