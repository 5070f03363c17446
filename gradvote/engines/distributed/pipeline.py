"""One round of several parts, in three passes, so that each part's work overlaps with the others' bytes.

The collectives start in the same order on all ranks: all ballots, then all decisions.
"""

from collections.abc import Iterable, Sequence

from torch import Tensor

from gradvote.engines.distributed.transport import Delivery, Transport
from gradvote.engines.distributed.turn import Turn


def run(transport: Transport, turns: Sequence[Turn], updates: Iterable[Tensor]) -> list[tuple[Delivery, Delivery]]:
    """Exchange the parts' updates (d_k,) until each turn can be read; an update is used up before the next is taken."""
    up = [transport.start(turn.vote(flat)) for turn, flat in zip(turns, updates, strict=True)]
    down = [transport.start(turn.decide(d.wait())) for turn, d in zip(turns, up, strict=True)]
    for turn, delivery in zip(turns, down, strict=True):
        turn.hear(delivery.wait())
    return list(zip(up, down, strict=True))
