"""Faults at random for as long as asked; after each one the run must go on, and all that `Invariants` says must hold.

    scripts/soak --minutes 60 --seed 0 [--signed]

Every fault is a line of the log, seeded; those that lack most come most often. The workers speak over the relay, which
cuts, hangs and slows their links and alters bytes. Strangers dial the workers' own ports, and so does a worker with a
certificate that only breaks rules; all connections are encrypted, unless it is asked for that they are not. One worker
at a time is spared from kills, to see whether it grows.
A soak ends with exit code 1 where an invariant broke, 2 where a quota was not met, or SIGTERM came before the time.
"""

import argparse
import heapq
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM, signal

import torch
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import algorithms
from gradvote.elastic import attach
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.net.authentication import Credentials
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.signing.names import SIGNED
from tests.engines.elastic.invariants import Broken, Invariants, check
from tests.engines.elastic.processes import Processes, keys_in, processes
from tests.engines.elastic.register_process import RegisterProcess, serving
from tests.engines.elastic.relay import Relay
from tests.engines.elastic.soak_faults import BAD, FAULTS
from tests.engines.elastic.soak_report import register_of, report
from tests.engines.elastic.strangers import in_background
from tests.engines.elastic.worker import new_model

WORKERS, QUORUM, PATIENCE, TICK = 5, 3, 90.0, 0.02
QUOTAS = {"kill": 100, "stop": 100, "ballots": 300, "link": 100, "nan": 100, "checkpoint": 50, "everybody": 10,
          "stranger": 150, "gone bad": 150, "register": 60, "halves": 60, "flip": 40}  # fmt: skip
YIELD = {"ballots": 4}
GROWTH_KB, SETTLED = 20_000, 100
"""How much a process may grow, measured from so many steps of its life on."""
BORN, CHECKED_EVERY = 2.0, 20
"""Seconds after which a worker that was started is at work; steps within which all parameters are compared."""
HOURLY = 60.0


class Soak:
    """A crew under fire. Time is counted in ticks of its own: who stops all processes for a while does not matter."""

    def __init__(
        self,
        run: Processes,
        server: RegisterProcess,
        relay: Relay,
        seed: int,
        log: Path,
        quotas: dict[str, int],
        patience: float = PATIENCE,
    ) -> None:
        self.patience = patience
        self.run, self.relay, self.random, self.log, self.quotas = run, relay, random.Random(seed), log, quotas
        self.invariants, self.counts = Invariants(run.folder), Counter[str]()
        self.began = time.monotonic()
        self.now, self.born = 0.0, dict.fromkeys(range(WORKERS), 0.0)
        self.sizes: dict[int, tuple[float, int]] = {}
        self.growth = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.stopped: set[int] = set()
        self.asked_to_end = False
        self.server, self.register = server, server.client()
        self.recipe, self.bad = recipe(run), self._enrolled()
        self._broken = ""
        self.register_kb = 0, 0

    @property
    def done(self) -> dict[str, int]:
        """What counts towards each quota; of ballots those found altered or malformed, not the merely late."""
        ballots = self.invariants.found["corrupted"] + self.invariants.found["malformed"]
        return {kind: ballots if kind == "ballots" else self.counts[kind] for kind in self.quotas}

    @property
    def spared(self) -> int:
        """The worker that is not killed alone now."""
        return int(self.now // 300) % WORKERS

    def lives(self) -> list[str]:
        return [f"{worker}.{life}" for worker, life in self.run.lives.items()]

    def pass_time(self, seconds: float) -> None:
        """Let the run go on, and look at all it says."""
        end = self.now + seconds
        while self.now < end:
            before = time.monotonic()
            time.sleep(TICK)
            self.now += min(time.monotonic() - before, 10 * TICK)
            while self._due and self._due[0][0] <= self.now:
                heapq.heappop(self._due)[2]()
            self.invariants.read(self.lives())
        self.invariants.check_loss()
        check(not self._broken, self._broken)
        self._weigh()

    def attack(self, act: Callable[[], None]) -> None:
        """Let somebody attack, in the background; an assertion of theirs that fails is ours."""

        def acting() -> None:
            try:
                act()
            except AssertionError as error:
                self._broken = str(error)
            except OSError:
                pass  # nobody is there, or it is stopped

        in_background(acting)

    def port(self, worker: int) -> int:
        """Where a worker listens itself, not its relay."""
        return int((self.run.folder / f"port.{worker}").read_text())

    def place(self, worker: int) -> Presence | None:
        """Where the register says that the latest process of a worker is."""
        tickets = range(self.register.num_tickets(), 0, -1)
        places = (self.register.place(ticket) for ticket in tickets)
        return next((place for place in places if place is not None and place.number == worker), None)

    def _enrolled(self) -> Credentials | None:
        if self.run.options.get("insecure"):
            return None
        write_certificates(self.run.folder / "others", 1)
        write_certificates(self.run.folder / "keys", BAD + 1)
        return Credentials.load(self.run.folder / "keys", BAD)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), act))

    def fault(self) -> None:
        """One fault, and proof that the run survives it."""
        lacking = {k: (max(q - self.done[k], 0) + 0.05 * q) / YIELD.get(k, 1) for k, q in self.quotas.items()}
        kind = self.random.choices(list(lacking), list(lacking.values()))[0]
        worker = self.random.choice([w for w in range(WORKERS) if w != self.spared])
        before, detail = self.invariants.latest, FAULTS[kind](self, worker)
        before = before if self.invariants.latest >= before else -1
        self._write(kind=kind, worker=worker, detail=detail)
        self.wait(lambda: self.invariants.latest >= before + 3, f"a step after {kind} {worker} {detail}")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Let the run go on until something holds."""
        end = self.now + self.patience
        while not condition():
            self.pass_time(0.1)
            check(self.now < end, f"waited {self.patience:g} s for {what}")

    def wait_for_steps(self, num: int) -> None:
        before = self.invariants.latest
        self.wait(lambda: self.invariants.latest >= before + num, f"{num} steps")

    def settles(self) -> bool:
        """Whether all are soon there, and nothing is about to happen to them."""
        for _ in range(100):
            there = all(self.alive(worker) for worker in self.born) and not self._due
            if there and min(self.now - born for born in self.born.values()) > BORN and self._together():
                return True
            self.pass_time(0.1)
        return False

    def _together(self) -> bool:
        return min(self.invariants.at.get(life, 0) for life in self.lives()) >= self.invariants.latest - 2

    def _write(self, **line: object) -> None:
        line |= {
            "at": round(self.now, 2),
            "wall": round(time.monotonic() - self.began, 2),
            "step": self.invariants.latest,
            "memory_kb": max(self.memory().values()),
        }
        line |= {"done": self.done, "found": dict(self.invariants.found)}
        line |= {"loss": round(self.invariants.losses[-1], 4) if self.invariants.losses else None}
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def memory(self) -> dict[int, int]:
        """Resident memory of each worker."""
        sizes = {0: 0}
        for worker, process in self.run.processes.items():
            status = Path(f"/proc/{process.pid}/status")
            if process.is_alive() and status.exists():
                own = [int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith("VmRSS")]
                sizes[worker] = own[0] if own else 0
        return sizes

    def _weigh(self) -> None:
        now = self.server.memory()
        self.register_kb = (self.register_kb[0] or now, max(self.register_kb[1], now))
        check(
            self.register_kb[1] < (self.register_kb[0] or now) + GROWTH_KB, f"the register grew: {self.register_kb} kB"
        )
        for worker, size in self.memory().items():
            life = self.run.lives.get(worker, 0)
            if self.invariants.taken[f"{worker}.{life}"] > SETTLED and size:
                _, first = self.sizes.setdefault(1000 * life + worker, (self.now, size))
                self.growth = max(self.growth, size - first)
                check(size < first + GROWTH_KB, f"worker {worker} grew from {first} to {size} kB")

    def kill(self, worker: int) -> None:
        """SIGKILL, also for who is stopped."""
        self.run.signal(worker, SIGKILL)
        self.stopped.discard(worker)
        self.invariants.end(f"{worker}.{self.run.lives[worker]}")

    def start(self, worker: int) -> None:
        if not self.run.processes[worker].is_alive():
            self.run.start(worker, relay=self.relay.ports[worker])
            self.born[worker] = self.now

    def tell(self, worker: int, **order: object) -> None:
        partial = self.run.folder / f"orders.{worker}.partial"
        partial.write_text(json.dumps({k.replace("_", " "): v for k, v in order.items()}))
        partial.replace(self.run.folder / f"orders.{worker}")

    def alive(self, worker: int) -> bool:
        return self.run.processes[worker].is_alive() and worker not in self.stopped

    def catch_saving(self, worker: int) -> bool:
        """Wait until a worker is in the middle of writing its checkpoint."""
        partial = self.run.folder / f"checkpoint.{worker}.partial"
        self.tell(worker, save_slowly=0.5)
        for _ in range(200):
            if partial.exists() or not self.alive(worker):
                break
            self.pass_time(TICK)
        self.pass_time(self.random.uniform(0, 0.3))
        return partial.exists()


def recipe(run: Processes) -> int:
    """What the workers of a soak tell each other, which an attacker may have found out."""
    model, placement = new_model(), run.options["placement"]
    algorithm, optimizer = algorithms.create("dist-ef-sgdm"), torch.optim.AdamW(model.parameters())
    about = {"min_workers": 1, "worker": 0, "workers": WORKERS, "store": HashStore(), "placement": placement,
             "check_parameters_every": CHECKED_EVERY}  # fmt: skip
    signed = any((run.folder / "keys").glob("*.private"))
    return attach(model, optimizer, algorithm, **about)._node.mesh.recipe ^ (SIGNED if signed else 0)


def main(
    minutes: float, seed: int, log: Path, pace: float, signed: bool, placement: str, insecure: bool, patience: float
) -> int:
    """0 where all went well."""
    log.unlink(missing_ok=True)
    quotas = {kind: -(-int(num * minutes) // int(HOURLY)) for kind, num in QUOTAS.items()}
    options = {"deadline": 0.5, "grace": 0.1, "timeout": 900.0, "gather": 10.0, "pace": pace, "checkpoints": True,
               "books": True, "lr": 0.003, "signed": signed, "placement": placement, "insecure": insecure,
               "check_every": CHECKED_EVERY}  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as name,
        serving(Path(name), None if insecure else keys_in(Path(name), BAD + 1)) as server,
        processes(Path(name), 0, QUORUM, 10**9, workers=WORKERS, store=server.address, **options) as run,
    ):
        relay = Relay(Path(name), WORKERS, seed)
        soak = Soak(run, server, relay, seed, log, quotas, patience)
        for worker in range(WORKERS):
            run.start(worker, relay=relay.ports[worker])
        signal(SIGTERM, lambda number, frame: setattr(soak, "asked_to_end", True))
        started, problem = time.monotonic(), ""
        try:
            while soak.invariants.latest < 10:
                soak.pass_time(0.1)
                check(soak.now < patience, f"the run did not begin: {run.last_words()}")
            while time.monotonic() < started + 60 * minutes and not soak.asked_to_end:
                soak.fault()
                soak.pass_time(soak.random.uniform(0, 2.5))
        except Broken as broken:
            problem = f"{broken}; the workers: {run.last_words()}; the register: {register_of(soak)}"
        relay.close()
        return report(soak, problem, time.monotonic() - started, 60 * minutes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--pace", type=float, default=0.02, help="seconds a worker rests before every vote")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds until a step must follow a fault")
    parser.add_argument("--signed", action="store_true", help="every worker signs its ballots")
    parser.add_argument("--insecure", action="store_true", help="without certificates, on the loopback")
    parser.add_argument("--placement", choices=["replicated", "sharded"], default="replicated")
    arguments = parser.parse_args()
    sys.exit(main(**vars(arguments)))
