"""Reads what the workers of a soak write, and holds it against the invariants."""

import json
import statistics
from collections import Counter, deque
from pathlib import Path
from typing import Any

KEPT_STEPS, NEAR, WINDOW = 4000, 4, 250
WORKERS = range(16)
"""Who votes; the numbers beyond are those of attackers."""


class Broken(AssertionError):
    """An invariant does not hold."""


def check(holds: bool, text: str) -> None:
    """Raise Broken where something does not hold."""
    if not holds:
        raise Broken(text)


class Invariants:
    """Whoever took a step has the parameters of all others that took it, from the same ballots; whether a worker's
    ballot left its memory is what all say that it counted; the loss falls, and does not rise again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.latest, self.compared, self.kept_checked = -1, 0, 0
        self.found: Counter[str] = Counter()
        self.lost: set[tuple[int, ...]] = set()
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.first_loss: float | None = None
        self.num_losses = 0
        self.at, self.taken = dict[str, int](), Counter[str]()
        self.odd, self.turned = set[str](), Counter[str]()
        """Lives in whose memory a bit has turned, until they are healed: all else is compared with each other."""
        self._offsets: dict[str, int] = {}
        self._digests: dict[int, str] = {}
        self._voters: dict[tuple[int, int], list[int]] = {}
        self._kept: dict[tuple[int, int, int], bool] = {}
        self._last_found: dict[tuple[str, int], int] = {}

    def read(self, lives: list[str]) -> int:
        """Compare all new lines of these lives (files "worker.life"); the latest step of the run."""
        for life in lives:
            path = self.folder / life
            if path.exists():
                with path.open("rb") as file:
                    file.seek(self._offsets.get(life, 0))
                    for raw in file.read().splitlines(keepends=True):
                        if raw.endswith(b"\n"):
                            self._offsets[life] = self._offsets.get(life, 0) + len(raw)
                            self._take(json.loads(raw), life)
        return self.latest

    def end(self, life: str) -> None:
        """A life is over: nothing more will be written."""
        self.read([life])
        for known in (self._offsets, self.at, self.taken, self.turned):
            known.pop(life, None)
        (self.folder / life).unlink(missing_ok=True)

    def rewind(self) -> None:
        """All workers died; what was taken after the last checkpoint is taken again, by other members."""
        self.latest = -1
        for book in (self._digests, self._voters, self._kept, self._last_found):
            book.clear()  # type: ignore[attr-defined]

    def check_loss(self) -> None:
        """Once the first loss is known to have fallen, it stays so."""
        if self.num_losses > 3 * WINDOW and self.first_loss is not None:
            now = statistics.median(self.losses)
            check(now < 0.85 * self.first_loss, f"the loss is {now:.3f}; it was {self.first_loss:.3f} at first")

    def _take(self, line: dict[str, Any], life: str) -> None:
        check("error" not in line, f"worker {life}: {line.get('error')}")
        if "flipped" in line:
            self.odd.add(life)
            self.turned[life] += 1
        if "healed" in line:
            self.odd.discard(life)
        if "digest" in line:
            self.at[life] = line["step"]
            self.taken[life] += 1
        if "digest" in line and life not in self.odd:
            self._compare(line["step"], line["digest"], life)
        if "loss" in line:
            self.first_loss = self.first_loss or line["loss"]
            self.losses.append(line["loss"])
            self.num_losses += 1
        if "applied" in line:
            step, attempt, voters = line["applied"]
            known = self._voters.setdefault((step, attempt), voters)
            check(known == voters, f"worker {life} counted {voters} in step {step}, another one {known}")
            for worker in WORKERS:
                self._check_kept(step, attempt, worker)
        if "kept" in line:
            step, attempt, counted = line["kept"]
            worker = int(life.partition(".")[0])
            self._kept[step, attempt, worker] = counted
            self._check_kept(step, attempt, worker)
        if "lost" in line:
            self.lost.add(tuple(line["lost"]))
        if "found" in line:
            self._find(*line["found"])

    def _compare(self, step: int, digest: str, life: str) -> None:
        if step > self.latest - KEPT_STEPS:
            known = self._digests.setdefault(step, digest)
            check(known == digest, f"worker {life}: parameters differ after step {step}")
            self.compared += 1
        if step > self.latest:
            self.latest = step
            if step % 500 == 0:
                self._forget(step - KEPT_STEPS)

    def _check_kept(self, step: int, attempt: int, worker: int) -> None:
        counted, voters = self._kept.get((step, attempt, worker)), self._voters.get((step, attempt))
        if counted is not None and voters is not None:
            self._kept.pop((step, attempt, worker))
            self.kept_checked += 1
            check(counted == (worker in voters), f"worker {worker}'s ballot of step {step}: memory {counted}, {voters}")

    def _find(self, what: str, worker: int, step: int) -> None:
        """Several workers see the same wrong, at steps that may differ a little: it is one."""
        if worker not in WORKERS:
            return
        if abs(step - self._last_found.get((what, worker), -NEAR)) >= NEAR:
            self.found[what] += 1
            self._last_found[what, worker] = step

    def _forget(self, before: int) -> None:
        self._digests = {s: d for s, d in self._digests.items() if s >= before}
        self._voters = {k: v for k, v in self._voters.items() if k[0] >= before}
        self._kept = {k: v for k, v in self._kept.items() if k[0] >= before}
