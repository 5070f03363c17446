"""One round of several parts, in three passes, so that each part's work overlaps with the others' bytes.

The collectives start in the same order on all ranks: all ballots, then all decisions.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from gradvote.engines.distributed.part_round import PartRound
from gradvote.engines.distributed.slices import Update
from gradvote.engines.distributed.transport import Delivered, Transport

Traffic = tuple[tuple[int, int], tuple[int, int]]
"""Bytes of ballots and of decisions, each sent and received."""


def run(
    transport: Transport,
    rounds: Sequence[PartRound],
    update: Update,
    ready: Callable[[int], None] | None = None,
) -> list[Traffic]:
    """Exchange what `update` gives for the parts until each round can be read; the bytes that each part took.

    `ready(k)` is called when round k can be read: nothing but the loss of a rank can make the round fail then.
    """
    sent = transport.start(round_.vote(update) for round_ in rounds)
    up = [each.traffic for each in sent]
    decided = transport.start(round_.decide(received) for round_, received in zip(rounds, _arriving(sent), strict=True))
    down = [each.traffic for each in decided]
    waiting = []
    for k, (round_, received) in enumerate(zip(rounds, _arriving(decided), strict=True)):
        round_.hear(received)
        waiting.append(k)
        if ready is not None and (not round_.part.replicated or k == len(rounds) - 1):
            for each in waiting:
                ready(each)
            waiting = []
    return list(zip(up, down, strict=True))


def _arriving(deliveries: list[Delivered]) -> Iterator[list[Tensor]]:
    """What arrives, one delivery after another; each is let go when it was looked at."""
    queue = deque(deliveries)
    deliveries.clear()
    while queue:
        yield queue.popleft().wait()
