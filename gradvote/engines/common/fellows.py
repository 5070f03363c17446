"""Fellows: workers whose data are declared to be of one kind. The ballots of who contradicts them are not counted.

P workers, numbered from 0 on, M of them with a ballot in this round, B blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.core import Context, Payload
from gradvote.engines.common.numbers import check_whole
from gradvote.engines.common.protocol import Protocol
from gradvote.staging import CPU, to_device, to_host


@dataclass(frozen=True)
class Fellows:
    """`groups` of workers that hold data of one kind; a worker may be in several, or in none.

    The state is the tally t (P, P): for fellows i, j the sum of sign(x_i)·sign(x_j) over all coordinates and rounds so
    far, x their decoded ballots. Whole numbers: the same on every machine. Rounds are added up because the signs of a
    single one tell too little: late in training even honest fellows hardly agree.
    """

    groups: tuple[tuple[int, ...], ...]

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """All i < j that are fellows."""
        return sorted({pair for group in self.groups for pair in combinations(sorted(group), 2)})

    def init(self) -> Tensor:
        """The tally before the first round."""
        workers = 1 + max(n for group in self.groups for n in group)
        return torch.zeros(workers, workers, dtype=torch.int64, device=CPU)

    def heard(
        self,
        tally: Tensor,
        protocol: Protocol,
        ballots: Sequence[Payload],
        ctxs: Sequence[Context],
        workers: Sequence[int],
    ) -> Tensor:
        """The tally after a round with ballots (M, B, ...) of these workers; a block that abstained adds nothing."""
        at = {worker: place for place, worker in enumerate(workers)}
        present = [(i, j) for i, j in self.pairs if i in at and j in at]
        if not present or not ballots:
            return tally
        total = torch.zeros(len(present), dtype=torch.int64, device=ballots[0].valid.device)
        for ballot, ctx, group in zip(ballots, ctxs, protocol.layout.groups, strict=True):
            signs = protocol.algorithm.up.decode(ballot, ctx, group.n).sign().to(torch.int8).flatten(1)
            total += torch.stack([(signs[at[i]] * signs[at[j]]).sum(dtype=torch.int64) for i, j in present])
        (added,) = to_host([total])
        rows, columns = torch.tensor(present, dtype=torch.int64, device=CPU).T
        tally = tally.clone()
        tally[rows, columns] += added
        tally[columns, rows] += added
        return tally

    def doubted(self, tally: Tensor) -> frozenset[int]:
        """Who is on the smaller side of those with whom it is connected by fellows; nobody where sides are equal.

        Sides are found by joining: at first each worker is a side of its own. Of all sides, those two are joined
        whose fellows agree or contradict most in sum; where they contradict, the signs of one are turned round.
        """
        side, cluster = _joined(tally.numpy())
        found: set[int] = set()
        for number in np.unique(cluster):
            members = np.flatnonzero(cluster == number)
            balance = int(side[members].sum())
            found |= {int(n) for n in members if side[n] * balance < 0}
        return frozenset(found)

    def counted(self, tally: Tensor, ballots: Sequence[Payload], workers: Sequence[int]) -> Sequence[Payload]:
        """The ballots, where those of doubted workers abstain."""
        doubted = self.doubted(tally)
        if doubted.isdisjoint(workers) or not ballots:
            return ballots
        believed = torch.tensor([n not in doubted for n in workers], dtype=torch.bool, device=CPU)
        counts = to_device(believed, ballots[0].valid.device)[:, None]
        return [Payload(ballot.valid & counts, ballot.planes) for ballot in ballots]


def fellows_of(groups: Any) -> Fellows | None:
    """What a user gave as `fellows=`; None for no groups.

    Raises:
        TypeError, ValueError: it is not groups of at least two workers' numbers.
    """
    if isinstance(groups, str) or not isinstance(groups, Sequence):
        raise TypeError(f"fellows= takes groups of workers' numbers, such as [(0, 3, 6), (1, 4)]; got {groups!r}.")
    for group in groups:
        if isinstance(group, str) or not isinstance(group, Sequence) or len(set(group)) < max(2, len(group)):
            raise ValueError(
                f"A group in fellows= has two or more different workers, such as (0, 3, 6); got {group!r}."
            )
        for worker in group:
            check_whole("A number in fellows=", worker, 0, "that of a worker")
    return Fellows(tuple(tuple(group) for group in groups)) if groups else None


def _joined(tally: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By worker: its side, 1 or −1, and the least number of those with whom it is connected."""
    between = tally.copy()
    side, cluster = np.ones(len(tally), np.int64), np.arange(len(tally))
    while True:
        one, other = sorted(divmod(int(np.abs(between).argmax()), len(tally)))
        if between[one, other] == 0:
            return side, cluster
        turn = 1 if between[one, other] > 0 else -1
        members = cluster == other
        side[members] *= turn
        cluster[members] = one
        between[one] += turn * between[other]
        between[:, one] = between[one]
        between[other] = between[:, other] = 0
        between[one, one] = 0
