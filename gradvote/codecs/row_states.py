"""States of half the memory of rows of unequal length: in float32 run by run, as many as stay in the cache."""

import torch

from gradvote import kernels
from gradvote.codecs import rounded
from gradvote.codecs.masked import Masked
from gradvote.codecs.rounded import Rounded, context_of, draw_of
from gradvote.codecs.row_masks import mask_key, mask_of
from gradvote.core import Context, Payload, State, shortcut
from gradvote.ragged import Ragged
from gradvote.scattered import Vector, vector_of

Encoded = tuple[Payload, State]


def encode_rounded(codec: Rounded, x: Vector, state: State, ctx: Context, rows: Ragged) -> Encoded:
    """What the codec inside does to all rows, whose states are kept in fewer bits."""
    runs = rows.cut(rounded.SLICE)
    if len(runs) == 1:
        return _encode(codec, x, state, ctx, rows)
    x = vector_of(x)
    masked = codec.reader if isinstance(codec.reader, Masked) else None
    keep = None if masked is None else mask_of(masked, ctx, rows)
    parts, new = list[Payload](), rounded.room_like(state)
    for first, end, own in runs:
        now = context_of(ctx, slice(first, end))
        if masked is not None and keep is not None:  # drawn once, as it is needed again to read and to send
            now.memo[mask_key(masked)] = keep[..., rows.words[first] : rows.words[end]]
        at = slice(int(rows.offsets[first]), int(rows.offsets[end]))
        payload, after = _encode(codec, x[at], _run(state, at, first, end, rows), now, own)
        rounded.put(after, _run(new, at, first, end, rows))
        parts.append(payload)
    planes = {name: torch.cat([part[name] for part in parts], -1) for name in parts[0].planes}
    return Payload(torch.cat([part.valid for part in parts], -1), planes), new


def _encode(codec: Rounded, x: Vector, state: State, ctx: Context, rows: Ragged) -> Encoded:
    payload, new = shortcut("encode all", (codec.codec,), x, codec.widened(state), ctx, rows)
    if codec.rounding == "nearest":
        return payload, codec.narrowed(new, state, codec.nearest)
    return payload, codec.narrowed(new, state, lambda i, own: kernels.ragged_narrow(own, draw_of(ctx, i), rows))


def _run(state: State, at: slice, first: int, end: int, rows: Ragged) -> State:
    """The states (d,) and (B,) of some rows, as views."""
    return {
        key: _run(own, at, first, end, rows)
        if isinstance(own, dict)
        else own[first:end]
        if len(own) == rows.num_rows
        else own[at]
        for key, own in state.items()
    }
