"""What an exchange needs in memory beside parameters and gradients, of the worker that needs most.

Of d coordinates among M workers, with w and s bytes of state per coordinate of a worker and of the server, u and v
bits per coordinate up and down, and σ the share of the coordinates that a worker serves (1/M when sharded, else 1):

    kept   d(w + σs)  +  dσMu/8 where a vote may be tied, so that ties can be counted  +  what waits for another use
    peak   kept  +  the new states of one slice  +  copies of ballots and decisions on their way  +  masks

States in bfloat16 have half of w and s; 2¹⁸ coordinates of them at a time are float32, old and new.

Of packed ballots and decisions there are about three copies, a few tenths of a byte. Of dense ones (32 bits) only a
few chunks of 1.5 million coordinates are there at once, six copies of each direction's bytes. Measured on
the processor in `Exchange`, where a tensor is not larger than a slice or has smaller blocks (docs/memory.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote.codecs import rounded
from gradvote.codecs.masked import Masked
from gradvote.codecs.wrapper import WrapperCodec
from gradvote.core import Aggregator, Algorithm, Part
from gradvote.engines.common.part import largest_share
from gradvote.engines.distributed.chunking import numbers_for
from gradvote.engines.distributed.pipeline import AHEAD, is_wide
from gradvote.engines.distributed.slices import SLICE
from gradvote.engines.distributed.states import leaves
from gradvote.engines.elastic.snapshots import LOGGED, LOGGED_BYTES
from gradvote.kernels.cpu.spare import LARGE, READY

COPIES = 3
"""Of a packed ballot or decision at once, as measured: as it was made, as it is sent, and as it arrives."""
IN_HAND = 5
"""Slices whose states exist twice at the peak, as measured: chunks overlap, and `malloc` holds some of it back."""
FEW = 6
"""Of one chunk of dense ballots or decisions, as measured: two on their way, there and back, and what is read."""
ON_THEIR_WAY = 1 + AHEAD
"""Of those, what is with the server: M ballots for its share, or M copies of the decision on that."""
MASKS = 3
"""A worker's own, those of the ballots for its share, and that of the decision: a bit per coordinate each."""
BALLOTS = 6
"""Of the ballots of an elastic step at once, as measured: as they came, opened, beside each other, and counted."""
CUT = 2
"""Of its own ballot in a sharded run beside these: as it was made, and as it was cut."""
WAITING = 7
"""Packed ballots and decisions whose memory waits for another use, as measured, where nothing larger needed it."""
HOLDERS = 2
"""Workers that hold a shard of an elastic run."""
BLOCK = 16384


@dataclass(frozen=True)
class Memory:
    """Bytes between steps, and at the most within one."""

    kept: float
    peak: float


NOTHING = Memory(0.0, 0.0)
"""What an all-reduce in place needs."""


def memory(algorithm: Algorithm, params: int, workers: int, placement: str, bits: tuple[float, float]) -> Memory:
    """The bytes beside parameters and gradients; `bits` per coordinate up and down."""
    share = 1 / workers if placement == "sharded" else 1.0
    worker, server = state_bytes(algorithm.up), state_bytes(algorithm.down)
    up, down = (own / 8 * params for own in bits)
    tied = type(algorithm.aggregate).ties is not Aggregator.ties
    waiting = min(float(READY), worker * SLICE + up)
    kept = params * (worker + share * server) + up * workers * share * tied + waiting
    masked = any(isinstance(own, Masked) for own in (_innermost(algorithm.up), _innermost(algorithm.down)))
    copies = COPIES * (up + down)
    if is_wide(algorithm) and placement != "replicated":
        served = 1 + ON_THEIR_WAY * (workers * share - 1) / FEW
        copies = FEW * served * (up + down) * largest_share(numbers_for(params, wide=True)[0])
    wide = 2 if isinstance(algorithm.up, rounded.Rounded) else 1  # float32 for the time of a slice
    within = wide * worker * min(IN_HAND * SLICE, params) + copies + masked * MASKS / 8 * params
    return Memory(kept, kept + within)


def elastic_memory(
    algorithm: Algorithm,
    params: int,
    workers: int,
    bits: tuple[float, float],
    steps: int = LOGGED,
    placement: str = "replicated",
) -> Memory:
    """The same of a member of an elastic run, after so many steps.

    kept   d(w + σs)  +  what of the latest steps is kept for those who are behind: at most 32 steps and 64 MB
           +  at most 12.6 MB that wait for another use, of ballots that are larger than a megabyte
    peak   the same but for what waits  +  d·w, as a slot may be given up  +  six copies of the ballots that it counts
           +  masks

    Where the placement is "replicated" σ is 1, all M ballots are counted and kept; where it is "sharded" each shard has
    two holders, so σ is 2/M and two ballots' bytes are counted, beside two copies of its own; decisions are kept, and
    at the peak d·σs, too, is there twice. As measured with two and three workers and 10M parameters (docs/memory.md).
    """
    sharded = placement == "sharded"
    worker, server = state_bytes(algorithm.up), state_bytes(algorithm.down)
    share = min(1.0, HOLDERS / workers) if sharded else 1.0
    up, decision = (own / 8 * params for own in bits)
    ballots = workers * share * up
    masked = any(isinstance(_innermost(half), Masked) for half in (algorithm.up, algorithm.down))
    logged = decision if sharded else ballots
    log = min(min(steps, LOGGED) * logged, max(float(LOGGED_BYTES), logged))
    waiting = min(float(READY), WAITING * up) if up >= LARGE and not worker else 0.0
    kept = params * (worker + share * server) + log
    anew = params * (worker + sharded * share * server)
    within = anew + BALLOTS * ballots + sharded * CUT * up + masked * MASKS / 8 * params
    return Memory(kept + waiting, kept + max(within, waiting))


def state_bytes(part: Part) -> float:
    """Bytes that a part remembers of each coordinate of a large block."""
    tensors: list[Tensor] = [own for _, own in leaves(part.init(torch.zeros(1, BLOCK)))]
    return sum(own.numel() * own.itemsize for own in tensors) / BLOCK


def _innermost(codec: Part) -> Part:
    """The codec that makes the bits: what is around it has no masks."""
    while isinstance(codec, WrapperCodec) and not isinstance(codec, Masked):
        codec = codec.codec
    return codec
