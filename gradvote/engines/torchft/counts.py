"""What a replica has counted, and whom it names."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gradvote.engines.common.notes import Notes
from gradvote.layout import Layout


@dataclass(frozen=True)
class ReplicaCounts:
    """One worker in the committed steps: `counted` ballots, and `abstained` where it healed, was a spare, or failed.

    `malformed` are those among the latter that did send something; `blocks` are the blocks of counted ballots that were
    not valid (NaN, Inf, an unused parameter).
    """

    counted: int = 0
    abstained: int = 0
    malformed: int = 0
    blocks: int = 0


@dataclass(frozen=True)
class TorchftStats:
    """What one replica has seen since it was attached; `workers` by number, `notes` by step.

    Bytes are those of greetings, ballots and verdicts to and from other replicas; torchft's own are not known here.
    """

    step: int
    members: tuple[int, ...]
    committed: int
    refused: int
    healed: int
    bytes_sent: int
    bytes_received: int
    workers: Mapping[int, ReplicaCounts]
    notes: tuple[tuple[int, str], ...]


@dataclass
class ReplicaTally(Notes):
    """Counters, and notes by step."""

    LOG = logging.getLogger("gradvote.torchft")
    members: tuple[int, ...] = ()
    committed: int = 0
    refused: int = 0
    healed: int = 0
    workers: dict[int, ReplicaCounts] = field(default_factory=dict)

    def commit(self, blocks: Mapping[int, int], silent: Iterable[int], malformed: Iterable[int]) -> None:
        """A step was taken: invalid blocks of counted ballots by worker, and the workers without a ballot."""
        self.committed += 1
        for number, num in blocks.items():
            own = self._of(number)
            self.workers[number] = replace(own, counted=own.counted + 1, blocks=own.blocks + num)
        for number in silent:
            self.workers[number] = replace(self._of(number), abstained=self._of(number).abstained + 1)
        for number in malformed:
            self.workers[number] = replace(self._of(number), malformed=self._of(number).malformed + 1)

    def refuse(self, step: int, why: object) -> None:
        """A step was not taken."""
        self.refused += 1
        self.note(step, f"not taken: {why}")

    def stats(self, step: int, traffic: tuple[int, int]) -> TorchftStats:
        """As a value."""
        counts = (self.committed, self.refused, self.healed, *traffic)
        return TorchftStats(step, self.members, *counts, dict(self.workers), tuple(self.notes))

    def _of(self, number: int) -> ReplicaCounts:
        return self.workers.get(number, ReplicaCounts())


def invalid_blocks(body: bytes, layout: Layout) -> int:
    """How many blocks of a ballot abstain: the flags of all blocks are the end of its body."""
    num = sum(len(group.blocks) for group in layout.groups)
    flags = np.frombuffer(body, dtype=np.uint8)[len(body) - -(-num // 8) :]
    return num - int(np.unpackbits(flags, count=num, bitorder="little").sum())
