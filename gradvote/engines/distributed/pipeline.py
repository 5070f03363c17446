"""One round of several parts, in three passes, so that each part's work overlaps with the others' bytes.

The collectives start in the same order on all ranks: all ballots, then all decisions.
"""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from gradvote.engines.distributed.transport import Delivery, Transport
from gradvote.engines.distributed.turn import Turn


def run(
    transport: Transport,
    turns: Sequence[Turn],
    updates: Iterable[Tensor],
    ready: Callable[[int], None] | None = None,
) -> list[tuple[Delivery, Delivery]]:
    """Exchange the parts' updates (d_k,) until each turn can be read; an update is used up before the next is taken.

    `ready(k)` is called when turn k can be read: nothing but the loss of a rank can make the round fail then.
    """
    up = transport.start(turn.vote(flat) for turn, flat in zip(turns, updates, strict=True))
    down = transport.start(turn.decide(d.wait()) for turn, d in zip(turns, up, strict=True))
    waiting = []
    for k, (turn, delivery) in enumerate(zip(turns, down, strict=True)):
        turn.hear(delivery.wait())
        waiting.append(k)
        if ready is not None and (not turn.part.replicated or k == len(turns) - 1):
            for each in waiting:
                ready(each)
            waiting = []
    return list(zip(up, down, strict=True))
