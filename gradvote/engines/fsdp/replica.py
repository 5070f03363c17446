"""The ranks of one replica: what they must say alike, although each votes on its own shard."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from gradvote.engines.common.clipping import factor
from gradvote.engines.common.errors import LinkBroken
from gradvote.engines.distributed.failures import Watch
from gradvote.engines.distributed.transport import Transport
from gradvote.staging import CPU


@dataclass(frozen=True)
class Said:
    """Of a step: the parameters on which anybody voted, in any shard, and whether any shard overflowed."""

    decided: frozenset[int]
    overflow: bool


class ShardRanks:
    """The ranks over which a replica is sharded."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.transport, self.watch = Transport(group), Watch(group)
        self._blocks = 0

    @property
    def shard(self) -> int:
        """The number of this rank's shard."""
        return self.transport.rank

    def know(self, num_blocks: int) -> None:
        """Ask for the most blocks that a shard has."""
        self._blocks = int(self.gather([num_blocks]).max())

    def gather(self, row: Sequence[int]) -> Tensor:
        """Everyone's row (S, k) int64, on the CPU."""
        return self.transport.gather(torch.tensor([*row], dtype=torch.int64, device=CPU))

    def agree(self, number: int, decided: AbstractSet[int], overflow: bool, step: int) -> Said:
        """What holds for the whole replica, of `number` parameters.

        A parameter that one shard has a direction for has one in all: clipping and scalers ask all shards of each
        gradient, and would wait for one that has none.
        """
        row = torch.zeros(number + 1, dtype=torch.uint8, device=CPU)
        row[[*decided]] = 1
        row[number] = overflow
        found = self._of_step(row, step).amax(0).tolist()
        return Said(frozenset(i for i in range(number) if found[i]), bool(found[number]))

    def factor(self, sums: Sequence[Tensor], max_norm: float, step: int) -> float:
        """What the replica's gradient is multiplied by, from the `squares` of this shard's blocks."""
        own = torch.cat([*sums]).to(CPU)
        row = torch.zeros(self._blocks, dtype=torch.float64, device=CPU)
        row[: len(own)] = own
        return factor([self._of_step(row, step).reshape(-1)], max_norm)

    def numbers(self, row: Sequence[float], step: int) -> Tensor:
        """Everyone's row (S, k) float64 of a step, on the CPU."""
        return self._of_step(torch.tensor([*row], dtype=torch.float64, device=CPU), step)

    def _of_step(self, row: Tensor, step: int) -> Tensor:
        try:
            return self.transport.gather(row)
        except LinkBroken as error:
            raise self.watch.failed(error, step) from error
