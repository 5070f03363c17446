"""What an exchange has counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradvote.staging import CPU

FP32_BITS = 32


@dataclass(frozen=True)
class ExchangeStats:
    """Counts of one rank since its start. Bytes are those of messages to and from other ranks.

    `abstentions[i]` counts the blocks of rank i that were not valid, among the blocks that this rank serves. `ties`
    counts the coordinates, among those served here, on which the last vote was split evenly. `skipped` counts the votes
    that were sent and not applied, as a `GradScaler` skipped the step.
    """

    rank: int
    num_ranks: int
    coordinates: int
    steps: int = 0
    sent_up: int = 0
    received_up: int = 0
    sent_down: int = 0
    received_down: int = 0
    abstentions: tuple[int, ...] = ()
    ties: int = 0
    skipped: int = 0

    @property
    def bytes_sent(self) -> int:
        """Ballots and decisions sent."""
        return self.sent_up + self.sent_down

    @property
    def bytes_received(self) -> int:
        """Ballots and decisions received."""
        return self.received_up + self.received_down

    @property
    def bits_per_coordinate(self) -> float:
        """Bits sent per coordinate and vote, both directions together."""
        return 8 * self.bytes_sent / max((self.steps + self.skipped) * self.coordinates, 1)

    @property
    def compression_rate(self) -> float:
        """Bytes of a ring all-reduce in float32, 64(M−1)/M bits per coordinate and step, by the bytes sent here."""
        ring = 2 * FP32_BITS * (self.num_ranks - 1) / self.num_ranks
        return ring / self.bits_per_coordinate if self.bytes_sent else float("nan")

    def add(self, up: tuple[int, int], down: tuple[int, int]) -> "ExchangeStats":
        """With one delivery of ballots and one of decisions more, each (sent, received)."""
        return replace(
            self,
            sent_up=self.sent_up + up[0],
            received_up=self.received_up + up[1],
            sent_down=self.sent_down + down[0],
            received_down=self.received_down + down[1],
        )

    def as_row(self) -> Tensor:
        """The counts (7 + M,) int64, to be gathered."""
        sent = self.sent_up, self.received_up, self.sent_down, self.received_down
        return torch.tensor(
            (self.steps, *sent, self.ties, self.skipped, *self.abstentions), dtype=torch.int64, device=CPU
        )


def from_rows(rows: Tensor, coordinates: int) -> list[ExchangeStats]:
    """The counts of all ranks from their rows (M, 7 + M)."""
    return [_from_row(rank, row, coordinates) for rank, row in enumerate(rows.tolist())]


def _from_row(rank: int, row: Sequence[int], coordinates: int) -> ExchangeStats:
    steps, sent_up, received_up, sent_down, received_down, ties, skipped, *abstentions = row
    counts = (steps, sent_up, received_up, sent_down, received_down, tuple(abstentions), ties, skipped)
    return ExchangeStats(rank, len(abstentions), coordinates, *counts)
