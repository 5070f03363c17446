"""Fellows: workers whose data are declared to be of one kind. The ballots of who contradicts them are not counted.

M workers with a ballot in this round, B blocks; W workers that have fellows, K pairs of fellows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.core import Context, Payload
from gradvote.engines.common.arguments import check_whole
from gradvote.engines.common.protocol import Protocol
from gradvote.staging import CPU, to_device, to_host

CLEAR = 6
"""Standard deviations from which on a sum is no chance. Where two workers have nothing in common, a product of signs is
±1 with mean 0 and variance 1 at most, and a sum of n of them has √n. Beyond 6 lie 2e-9 of all sums, so that a thousand
pairs over a thousand rounds are wrong once in five hundred runs, if coordinates are independent."""


@dataclass(frozen=True)
class Fellows:
    """`groups` of workers that hold data of one kind; a worker may be in several, or in none.

    The state is the tally (2, K): for fellows i < j the sum t of sign(x_i)·sign(x_j) over all coordinates and rounds so
    far, x their decoded ballots, and the number n of those on which both have voted. Whole numbers: the same on every
    machine. Rounds are added up because the signs of a single one tell too little: late in training even honest fellows
    hardly agree.
    """

    groups: tuple[tuple[int, ...], ...]

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """All i < j that are fellows, in order: the K places of the tally."""
        return sorted({pair for group in self.groups for pair in combinations(sorted(group), 2)})

    @cached_property
    def workers(self) -> NDArray[np.int64]:
        """The W workers that have fellows, in order."""
        return np.unique(np.array(self.pairs, np.int64))

    def init(self) -> Tensor:
        """The tally before the first round."""
        return torch.zeros(2, len(self.pairs), dtype=torch.int64, device=CPU)

    def present(self, workers: Sequence[int]) -> list[int]:
        """The places of those among these workers that have a fellow among them."""
        here = set(workers)
        met = {n for pair in self.pairs if here.issuperset(pair) for n in pair}
        return [place for place, worker in enumerate(workers) if worker in met]

    def heard(
        self,
        tally: Tensor,
        protocol: Protocol,
        ballots: Sequence[Payload],
        ctxs: Sequence[Context],
        workers: Sequence[int],
    ) -> Tensor:
        """The tally after a round with ballots (M, B, ...) of these workers; a block that abstained adds nothing.

        Only ballots of those that are `present` are decoded, and only one group of blocks at a time.
        """
        rows = self.present(workers)
        if not rows or not ballots:
            return tally
        at = {workers[row]: place for place, row in enumerate(rows)}
        places = [k for k, (i, j) in enumerate(self.pairs) if i in at and j in at]
        met = [(at[i], at[j]) for i, j in (self.pairs[k] for k in places)]
        total = torch.zeros(2, len(met), dtype=torch.int64, device=ballots[0].valid.device)
        for ballot, ctx, group in zip(ballots, ctxs, protocol.layout.groups, strict=True):
            own = (ballot, ctx) if len(rows) == len(workers) else _of(ballot, ctx, rows)
            signs = protocol.algorithm.up.decode(*own, group.n).sign().to(torch.int8).flatten(1)
            for place, (i, j) in enumerate(met):
                both = signs[i] * signs[j]
                total[0, place] += both.sum(dtype=torch.int64)
                total[1, place] += both.count_nonzero()
        (added,) = to_host([total])
        tally = tally.clone()
        tally[:, torch.tensor(places, dtype=torch.int64, device=CPU)] += added
        return tally

    def doubted(self, tally: Tensor) -> frozenset[int]:
        """Who contradicts a side with more than half of all workers whom fellows connect.

        Sides are found by joining: at first each worker is a side of its own. Of all sides, those two are joined
        whose fellows agree or contradict most in sum; where they contradict, the signs of one are turned round. Only
        sums that are `CLEAR`, t² > CLEAR²·n, join anybody. So where most are honest nobody honest is doubted, however
        few are joined yet: half of all are needed, not of those.
        """
        side, cluster = _joined(*self._square(tally))
        found: set[int] = set()
        for number in np.unique(cluster):
            own = cluster == number
            larger = 1 if int(side[own].sum()) > 0 else -1
            if 2 * int((own & (side == larger)).sum()) > int((self._connected == self._connected[number]).sum()):
                found.update(self.workers[own & (side != larger)].tolist())
        return frozenset(found)

    def saved(self, tally: Tensor) -> dict[str, Any]:
        """For a checkpoint: the tally, and of whom it is."""
        return {"groups": self.groups, "tally": tally}

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """The places (K, 2) of each pair's workers among the W."""
        return np.searchsorted(self.workers, np.array(self.pairs, np.int64))

    @cached_property
    def _connected(self) -> NDArray[np.int64]:
        """By worker (W,): the least place of those with whom it is connected by fellows, their fellows, and so on."""
        found = np.arange(len(self.workers))
        for one, other in self._places:
            first, second = sorted((int(found[one]), int(found[other])))
            if first != second:
                found[found == second] = first
        return found

    def _square(self, tally: Tensor) -> NDArray[np.int64]:
        """The tally (2, W, W) of all against all."""
        found = np.zeros((2, len(self.workers), len(self.workers)), np.int64)
        rows, columns = self._places.T
        found[:, rows, columns] = found[:, columns, rows] = tally.numpy()
        return found


def without(ballots: Sequence[Payload], doubted: frozenset[int], workers: Sequence[int]) -> Sequence[Payload]:
    """The ballots of these workers, where those of doubted ones abstain."""
    if doubted.isdisjoint(workers) or not ballots:
        return ballots
    believed = torch.tensor([n not in doubted for n in workers], dtype=torch.bool, device=CPU)
    counts = to_device(believed, ballots[0].valid.device)[:, None]
    return [Payload(ballot.valid & counts, ballot.planes) for ballot in ballots]


def fellows_of(groups: Any, num_workers: int | None = None) -> Fellows | None:
    """What a user gave as `fellows=`, in an order of its own; None for no groups. None: any number may be a worker's.

    Raises:
        TypeError, ValueError: it is not groups of at least two workers' numbers.
    """
    given = _listed(groups)
    if given is None:
        raise TypeError(f"fellows= takes groups of workers' numbers, such as [(0, 3, 6), (1, 4)]; got {groups!r}.")
    found = {_group_of(group, num_workers) for group in given}
    return Fellows(tuple(sorted(found))) if found else None


def tally_in(fellows: Fellows | None, state: Any, what: str) -> Tensor | None:
    """The tally in what was `saved` of these fellows, None for no fellows; `what` says who has them.

    Raises:
        ValueError: it is that of others.
    """
    groups = None if fellows is None else fellows.groups
    found = state.get("groups") if isinstance(state, Mapping) else state
    tally = state.get("tally") if isinstance(state, Mapping) else None
    if fellows is None and state is None:
        return None
    fits = fellows is not None and isinstance(tally, Tensor) and tally.shape == (2, len(fellows.pairs))
    if not fits or found != groups:
        raise ValueError(
            f"The checkpoint was saved with fellows={found}, but this {what} has {groups}: what was counted of some "
            "says nothing of others. Use the same ones, or another checkpoint."
        )
    return tally


def _listed(given: Any) -> list[Any] | None:
    """The members of a sequence or an array; None for what is neither."""
    if isinstance(given, np.ndarray | Tensor):
        given = given.tolist()
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else None


def _group_of(group: Any, num_workers: int | None) -> tuple[int, ...]:
    """A group's numbers in order."""
    listed = _listed(group)
    found = [] if listed is None else [_number(worker) for worker in listed]
    for worker in found:
        check_whole("A number in fellows=", worker, 0, "that of a worker")
        if num_workers is not None and worker >= num_workers:
            raise ValueError(
                f"A number in fellows= is that of a worker, below num_workers = {num_workers}; got {worker}."
            )
    if len(set(found)) < max(2, len(found)):
        raise ValueError(f"A group in fellows= has two or more different workers, such as (0, 3, 6); got {group!r}.")
    return tuple(sorted(found))


def _number(worker: Any) -> Any:
    """numpy's whole numbers as Python's; what is none stays what it is."""
    if isinstance(worker, bool | np.bool_) or not isinstance(worker, np.integer):
        return worker
    return int(worker)


def _of(ballot: Payload, ctx: Context, rows: Sequence[int]) -> tuple[Payload, Context]:
    """The ballots of some of the senders, and their context."""
    at = torch.tensor(rows, dtype=torch.int64, device=CPU)
    sender = ctx.sender[at] if isinstance(ctx.sender, Tensor) else ctx.sender
    at = to_device(at, ballot.valid.device)
    own = Payload(ballot.valid[at], {name: plane[at] for name, plane in ballot.planes.items()})
    return own, replace(ctx, sender=sender, peers=())


def _joined(between: NDArray[np.int64], both: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By worker: its side, 1 or −1, and the least place of those with whom it is connected.

    `between` and `both` are the sums and numbers (W, W) of sides.
    """
    strength = _clear(between, both)
    side, cluster = np.ones(len(between), np.int64), np.arange(len(between))
    while True:
        one, other = sorted(divmod(int(strength.argmax()), len(between)))
        if strength[one, other] == 0:
            return side, cluster
        turn = 1 if between[one, other] > 0 else -1
        members = cluster == other
        side[members] *= turn
        cluster[members] = one
        for sums, sign in ((between, turn), (both, 1)):
            sums[one] += sign * sums[other]
            sums[one, one] = 0
            sums[:, one] = sums[one]
            sums[other] = sums[:, other] = 0
        strength[other] = strength[:, other] = 0
        strength[one] = strength[:, one] = _clear(between[one], both[one])


def _clear(sums: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """How large sums are, 0 for those that may be chance. In Python's whole numbers, which squares do not overflow."""
    found = np.zeros_like(sums)
    for place in zip(*np.nonzero(sums), strict=True):
        t, n = int(sums[place]), int(numbers[place])
        found[place] = abs(t) if t * t > CLEAR * CLEAR * n else 0
    return found
