"""Masks and packed bits of rows of unequal length: what `codecs.masked` does, for all groups in one call."""

from functools import reduce

import numpy as np
import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs.masked import UNITS, Masked, threshold_of
from gradvote.codecs.sign import any_set
from gradvote.core import Codec, Context, Payload
from gradvote.ragged import Numbers, Ragged
from gradvote.rng import Stream, draw
from gradvote.schedules import Schedule, evaluate
from gradvote.staging import to_device, to_host


def mask_key(codec: Masked) -> tuple[object, ...]:
    """Under which name a context keeps a mask of all rows."""
    return ("all", codec.keep, codec.granularity)


def mask_of(codec: Masked, ctx: Context, rows: Ragged) -> Tensor:
    """The kept coordinates (..., W); drawn once for a context, not to be written to."""
    key = mask_key(codec)
    if key not in ctx.memo:
        keep = codec.keep
        if isinstance(keep, Schedule):
            threshold: int | Tensor = to_device(threshold_of(evaluate(keep, ctx, on_host=True)), ctx.block.device)
        else:
            threshold = round(keep * UNITS)
        ctx.memo[key] = kernels.ragged_keep_bits(draw(ctx, Stream.MASK), threshold, codec.granularity, rows)
    return ctx.memo[key]


def lengths_of(codec: Masked, ctx: Context, rows: Ragged) -> Numbers:
    """How many words the kept bits of each row fill (..., B): a card is waited for, as messages have known lengths."""
    key = ("all", codec.keep, codec.granularity, "words")
    if key not in ctx.memo:
        (ctx.memo[key],) = to_host([(kernels.ragged_counts(mask_of(codec, ctx, rows), rows) + 63) >> 6])
    return np.asarray(ctx.memo[key])


def bits_of(codec: Codec, payload: Payload, ctx: Context, rows: Ragged) -> tuple[Tensor, Tensor | None]:
    """A bit for every coordinate, and words that mark those a ballot speaks on; None: all."""
    spoken, bits = [], payload["bits"]
    if isinstance(codec, Masked):
        spoken.append(mask_of(codec, ctx, rows))
        bits = kernels.ragged_expand(bits, spoken[0], rows)
    still = payload.planes.get("still")
    if still is not None and any_set(still):
        spoken.append(kernels.ragged_outside_units(still, rows))
    return bits, reduce(torch.bitwise_and, spoken) if spoken else None
