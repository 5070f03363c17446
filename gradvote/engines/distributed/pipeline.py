"""One round of several parts, in three passes, so that each part's work overlaps with the others' bytes.

The collectives start in the same order on all ranks: all ballots, then all decisions.
"""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from gradvote.engines.distributed.transport import Delivery, Transport
from gradvote.engines.distributed.turn import Turn


def run(
    transport: Transport, turns: Sequence[Turn], updates: Iterable[Tensor], done: Callable[[int, Tensor], None]
) -> list[tuple[Delivery, Delivery]]:
    """Exchange the parts' updates (d_k,); `done(k, direction)` is called for each part in turn."""
    up = [transport.start(turn.vote(flat)) for turn, flat in zip(turns, updates, strict=True)]
    down = [transport.start(turn.decide(d.wait())) for turn, d in zip(turns, up, strict=True)]
    for k, (turn, delivery) in enumerate(zip(turns, down, strict=True)):
        done(k, turn.read(delivery.wait()))
    return list(zip(up, down, strict=True))
