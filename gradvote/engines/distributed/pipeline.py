"""One round of several parts, in three passes, so that each part's work overlaps with the others' bytes.

The collectives start in the same order on all ranks: all ballots, then all decisions; of dense ones a few at once.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from gradvote.core import Algorithm, Codec, Context
from gradvote.engines.distributed.part_round import PartRound
from gradvote.engines.distributed.slices import Update
from gradvote.engines.distributed.states import has_state
from gradvote.engines.distributed.transport import Delivered, Room, Transport
from gradvote.staging import CPU, Rooms

AHEAD = 1
"""Parts with dense ballots or decisions whose ballots are on their way while those of another one are counted."""
WIDE = 8
"""Bits per coordinate from which ballots and decisions are dense."""
Traffic = tuple[tuple[int, int], tuple[int, int]]
"""Bytes of ballots and of decisions, each sent and received."""


def run(
    transport: Transport,
    rounds: Sequence[PartRound],
    update: Update,
    ready: Callable[[int], None] | None = None,
) -> list[Traffic]:
    """Exchange what `update` gives for the parts until each round can be read; the bytes that each part took.

    `ready(k)` is called when round k can be read: nothing but the loss of a rank can make the round fail then. Dense
    ballots and decisions are not all on their way at once (`AHEAD`), and what is wrong with a later part may be found
    after earlier ones were read.
    """
    if ready is not None and len(rounds) > AHEAD and not rounds[0].part.replicated and is_wide(rounds[0].algorithm):
        return _few_at_once(transport, rounds, update, ready)
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


def is_wide(algorithm: Algorithm) -> bool:
    """Whether a ballot or a decision has more than `WIDE` bits per coordinate."""
    ctx = Context(0, 0, torch.zeros(1, dtype=torch.int64, device=CPU), 0)
    return max(_bits(algorithm.up, ctx), _bits(algorithm.down, ctx.as_server())) > WIDE


def _bits(codec: Codec, ctx: Context, n: int = 1 << 10) -> float:
    return sum(int(plane.dtype.itemsize * 8 * np.max(plane.rows)) for plane in codec.planes(n, ctx)) / n


def _few_at_once(
    transport: Transport, rounds: Sequence[PartRound], update: Update, ready: Callable[[int], None]
) -> list[Traffic]:
    """Where no tie is to be counted and the server remembers nothing, nobody looks at ballots once they are counted."""
    up, down, traffic, rooms = deque[Delivered](), deque[Delivered](), list[Traffic](), Rooms()
    forgets = not rounds[0].counts_ties and not has_state(rounds[0].algorithm.down)

    def room_of(kind: str, k: int) -> Room | None:
        """Memory that every `AHEAD` + 1st part has had, and needs no more."""
        if transport.home != CPU or transport.device != CPU or (kind == "up" and not forgets):
            return None
        return lambda use, size: rooms.take((kind, use, k % (AHEAD + 1)), size)

    def read(k: int) -> None:
        rounds[k].hear(down.popleft().wait())
        ready(k)

    for k in range(len(rounds) + AHEAD):
        if k < len(rounds):
            up.extend(transport.start([rounds[k].vote(update)], room_of("up", k)))
        if k >= AHEAD:
            ballots = up.popleft()
            down.extend(transport.start([rounds[k - AHEAD].decide(ballots.wait())], room_of("down", k)))
            traffic.append((ballots.traffic, down[-1].traffic))
            del ballots
            if k > AHEAD:
                read(k - AHEAD - 1)
    read(len(rounds) - 1)
    return traffic


def _arriving(deliveries: list[Delivered]) -> Iterator[list[Tensor]]:
    """What arrives, one delivery after another; each is let go when it was looked at."""
    queue = deque(deliveries)
    deliveries.clear()
    while queue:
        yield queue.popleft().wait()
