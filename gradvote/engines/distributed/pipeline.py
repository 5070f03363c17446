"""One round of several parts, in three passes, so that each part's work overlaps with the others' bytes.

The collectives start in the same order on all ranks: all ballots, then all decisions.
"""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from gradvote.engines.distributed.part_round import PartRound
from gradvote.engines.distributed.transport import Delivered, Transport


def run(
    transport: Transport,
    rounds: Sequence[PartRound],
    updates: Iterable[Tensor],
    ready: Callable[[int], None] | None = None,
) -> list[tuple[Delivered, Delivered]]:
    """Exchange the parts' updates (d_k,) until each round can be read; an update is used up before the next is taken.

    `ready(k)` is called when round k can be read: nothing but the loss of a rank can make the round fail then.
    """
    up = transport.start(round_.vote(flat) for round_, flat in zip(rounds, updates, strict=True))
    down = transport.start(round_.decide(d.wait()) for round_, d in zip(rounds, up, strict=True))
    waiting = []
    for k, (round_, delivery) in enumerate(zip(rounds, down, strict=True)):
        round_.hear(delivery.wait())
        waiting.append(k)
        if ready is not None and (not round_.part.replicated or k == len(rounds) - 1):
            for each in waiting:
                ready(each)
            waiting = []
    return list(zip(up, down, strict=True))
