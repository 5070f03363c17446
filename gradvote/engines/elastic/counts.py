"""What a worker has counted, and whom it names."""

import logging
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from gradvote.engines.common.notes import Notes
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record


@dataclass(frozen=True)
class WorkerCounts:
    """One worker as this one sees it.

    `counted` ballots, `missed` ones (abstentions of a member), and among what arrived: `corrupted` (altered on the
    way), `malformed` (of a wrong length), `stale` (for a slot that is past), `replayed` (sent again), `forged` (ballots
    and lists that are not signed by those they name). It `joined` and was `excluded` so many times; it `lied` where it
    signed two ballots for one step, and was excluded for good. It `differed` from most in its parameters so many
    times, and had to take over theirs. `latency` is that of its last ballot after this worker's own (seconds, negative
    where it came first), `mean_latency` over all.
    """

    counted: int = 0
    missed: int = 0
    corrupted: int = 0
    malformed: int = 0
    stale: int = 0
    replayed: int = 0
    forged: int = 0
    lied: int = 0
    excluded: int = 0
    joined: int = 0
    differed: int = 0
    latency: float = 0.0
    mean_latency: float = 0.0

    @property
    def abstentions(self) -> int:
        """Ballots that did not count while it was a member."""
        return self.missed


@dataclass(frozen=True)
class ElasticStats:
    """What one worker has seen since it joined; `workers` by number."""

    step: int
    members: tuple[int, ...]
    steps: int
    retried: int
    slow: int
    bytes_sent: int
    bytes_received: int
    workers: Mapping[int, WorkerCounts]
    notes: tuple[tuple[int, str], ...]
    refused: Mapping[str, int] = field(default_factory=dict)
    """What was not let in or not heard, by reason: strangers, floods, peers that break the rules."""


@dataclass
class RunCounts(Notes):
    """Counters, and notes by step that name who was at fault."""

    LOG = logging.getLogger("gradvote.elastic")
    steps: int = 0
    retried: int = 0
    slow: int = 0
    workers: dict[int, WorkerCounts] = field(default_factory=dict)

    def decided(self, record: Record, members: Mapping[int, Member], left: Set[int]) -> None:
        """Count a decision on a slot of these members, and say who comes, who goes and why."""
        applied, step = record.outcome == Outcome.APPLY, record.slot.step
        self.steps, self.retried = self.steps + applied, self.retried + (not applied)
        if record.given_up is not None:
            self.note(step, str(record.given_up))
        for ticket, member in members.items():
            if applied:
                self.add(member.number, "counted" if ticket in record.counted else "missed")
            if not record.has(ticket):
                self.add(member.number, "excluded")
                reason = next((str(r) for r in record.reasons if r.number == member.number), None)
                gone = None if reason and ticket not in left else f"worker {member.number} has left"
                self.note(step, gone or reason or "")
        for member in record.members:
            if member.ticket not in members:
                self.add(member.number, "joined")
                self.note(step, f"worker {member.number} joined")

    def add(self, number: int, what: str) -> None:
        """Count something about a worker."""
        own = self.workers.get(number, WorkerCounts())
        self.workers[number] = replace(own, **{what: getattr(own, what) + 1})

    def arrived(self, number: int, seconds: float) -> None:
        """Note how late a ballot came."""
        own = self.workers.get(number, WorkerCounts())
        mean = own.mean_latency + (seconds - own.mean_latency) / (own.counted + own.missed + 1)
        self.workers[number] = replace(own, latency=seconds, mean_latency=mean)
