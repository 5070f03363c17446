"""The table of what is done to all groups of a layout in one call: signs, masks, momenta, memories, votes and means.

Parts are asked group by group for rectangles (..., B, n). Where an algorithm is made of the parts below, all groups
are rows of unequal length (`gradvote.ragged`), and a round takes a handful of calls whatever the sizes are, with the
bits of the plain way. x (d,), states (d,) or (B,), planes with the rows of all groups; a context has all block numbers.
An entry is asked only for what `covers` says it can do, and for float32. On a card it is asked for the worker's half
only, which it does without waiting but for the length of masked messages.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.aggregators.majority_vote import MajorityVote
from gradvote.aggregators.mean import Mean
from gradvote.codecs.chain import Chain
from gradvote.codecs.error_feedback import ErrorFeedback
from gradvote.codecs.masked import Masked
from gradvote.codecs.rounded import Rounded
from gradvote.codecs.row_masks import bits_of, lengths_of, mask_of
from gradvote.codecs.row_memory import one_pass
from gradvote.codecs.row_states import encode_rounded
from gradvote.codecs.row_votes import elect, vote
from gradvote.codecs.sign import Sign
from gradvote.codecs.wrapper import WrapperCodec
from gradvote.core import SHORTCUTS, Algorithm, Codec, Context, Payload, State, Transform, shortcut
from gradvote.kernels import Inertia
from gradvote.ragged import WORD, Ragged, RaggedPlane
from gradvote.rng import Stream, draw
from gradvote.scattered import Vector, vector_of
from gradvote.transforms.adam import Adam, moments_of, state_of
from gradvote.transforms.momentum import Ema, LionMomentum, Momentum
from gradvote.transforms.noise import Noise

LONGEST = WORD << 12
"""Coordinates of the longest row whose bits are moved together."""
MOMENTA = (Momentum, Ema, LionMomentum, Adam)
READ, WRITTEN = (Sign, Masked), (Sign, Masked, ErrorFeedback, Chain, Rounded)
Encoded = tuple[Payload, State]


@lru_cache(64)
def covers(algorithm: Algorithm, longest: int) -> bool:
    """Whether every step of this algorithm has its entry, for rows of at most so many coordinates."""
    up, rule, down = algorithm.up, algorithm.aggregate, algorithm.down
    read = _signs(up.reader, longest) and _signs(down.reader, longest)
    if not read or not (_writes(up) and _writes(down)) or up.reports:
        return False
    sign = up.reader.codec if isinstance(up.reader, Masked) else up.reader
    if type(rule) is MajorityVote:
        return rule.weights is None and isinstance(sign, Sign) and sign.scale != "l1"
    return type(rule) is Mean and rule.weights is None


def covers_on_a_card(algorithm: Algorithm) -> bool:
    """Whether a card has the kernels for it, too: those that round to fewer bits it has not."""
    up: object = algorithm.up
    while isinstance(up, Chain | WrapperCodec):
        if isinstance(up, Rounded):
            return False
        up = up.codec
    return True


def encode_chain(codec: Chain, x: Vector, state: State, ctx: Context, rows: Ragged) -> Encoded:
    """Momenta, then noise and signs or a memory with the last momentum in one pass."""
    new, last, end = dict(state), codec.transforms[-1], str(len(codec.transforms) - 1)
    for i, transform in enumerate(codec.transforms[:-1]):
        x, new[str(i)] = _moved(transform, x, state[str(i)], rows)
    if isinstance(last, Noise) and isinstance(codec.codec, Sign):
        return _noisy(last, codec.codec, x, ctx, rows), new
    if isinstance(last, Momentum) and isinstance(codec.codec, ErrorFeedback):
        inertia = Inertia(state[end]["momentum"], last.mu, last.nesterov)
        payload, new["codec"], moved = one_pass(codec.codec, x, inertia, state["codec"], ctx, rows)
        return payload, {**new, end: {"momentum": moved}}
    if isinstance(codec.codec, Sign) and codec.codec.scale != "l1" and _is_average(last):
        payload, new[end] = _averaged(last, codec.codec, x, state[end], ctx, rows)
        return payload, new
    x, new[end] = _moved(last, x, state[end], rows)
    payload, new["codec"] = shortcut("encode all", (codec.codec,), x, state["codec"], ctx, rows)
    return payload, new


def encode_memory(codec: ErrorFeedback, x: Vector, state: State, ctx: Context, rows: Ragged) -> Encoded:
    """Error memory and signs in one pass."""
    return one_pass(codec, x, None, state, ctx, rows)[:2]


def encode_sign(codec: Sign, x: Vector, state: State, ctx: Context, rows: Ragged) -> Encoded:
    """Signs, flags, marked units and scales."""
    return _signed(codec, x, None, ctx, rows), state


def encode_masked(codec: Masked, x: Vector, state: State, ctx: Context, rows: Ragged) -> Encoded:
    """The same of the kept coordinates."""
    keep = mask_of(codec, ctx, rows)
    payload = _signed(codec.codec, x, keep, ctx, rows)
    bits = kernels.ragged_compact(payload["bits"], keep, rows)
    return Payload(payload.valid, {**payload.planes, "bits": bits}), state


def combine_votes(
    up: Codec, rule: MajorityVote, down: Codec, ballots: Payload, state: State, ctx: Context, rows: Ragged
) -> Encoded:
    """A vote on packed bits; they are the decision, where `down` sends just that."""
    bits, spoken = bits_of(up, ballots, ctx, rows)
    if isinstance(down, Sign) and down.scale != "l1" and rule.tie != "abstain" and (down.still or not rule.still):
        return elect(up, rule, down, ballots, bits, spoken, ctx, rows), state
    x = vote(rule, bits, spoken, ballots.valid, ctx, rows)
    encoded: Encoded = shortcut("encode all", (down,), x, state, ctx.as_server(), rows)
    return encoded


def combine_means(
    up: Codec, rule: Mean, down: Codec, ballots: Payload, state: State, ctx: Context, rows: Ragged
) -> Encoded:
    """The mean of signs, and its way down."""
    bits, spoken = bits_of(up, ballots, ctx, rows)
    count = ballots.valid.sum(0).float()
    x = kernels.ragged_mean(bits, spoken, _scales(up, ballots, ctx), count.where(count > 0, torch.nan), rows)
    encoded: Encoded = shortcut("encode all", (down,), x, state, ctx.as_server(), rows)
    return encoded


def decode(codec: Codec, payload: Payload, ctx: Context, out: Vector, rows: Ragged) -> Vector:
    """Signs written where they are wanted."""
    bits, spoken = bits_of(codec, payload, ctx, rows)
    kernels.ragged_unpack(bits, spoken, _scales(codec, payload, ctx), out, rows)
    return out


def check(codec: Codec, payload: Payload) -> Payload:
    """The payload with the flag of every row cleared whose scale no honest sender produces."""
    if _sign_of(codec).scale != "l1":
        return payload
    scale = payload["scale"]
    return Payload(payload.valid & torch.isfinite(scale) & (scale >= 0), payload.planes)


def planes(codec: Codec, ctx: Context, rows: Ragged) -> tuple[RaggedPlane, ...]:
    """What is sent for all rows."""
    sign = _sign_of(codec)
    widths = lengths_of(codec, ctx, rows) if isinstance(codec, Masked) else rows.widths
    found = [RaggedPlane("bits", torch.int64, rows.words, widths)]
    if sign.marks:
        found.append(RaggedPlane("still", torch.int64, rows.unit_words, rows.unit_widths))
    if sign.scale == "l1":
        found.append(RaggedPlane("scale", torch.float32, *rows.ones))
    return tuple(found)


TABLE: dict[tuple[object, ...], Callable[..., Any]] = {
    ("covers", Algorithm): covers,
    ("covers on a card", Algorithm): covers_on_a_card,
    ("encode all", Chain): encode_chain,
    ("encode all", ErrorFeedback): encode_memory,
    ("encode all", Rounded): encode_rounded,
    ("encode all", Sign): encode_sign,
    ("encode all", Masked): encode_masked,
    **{("combine all", up, MajorityVote, down): combine_votes for up in READ for down in WRITTEN},
    **{("combine all", up, Mean, down): combine_means for up in READ for down in WRITTEN},
    **{("decode all", codec): decode for codec in READ},
    **{("check all", codec): check for codec in READ},
    **{("planes of all", codec): planes for codec in READ},
}
SHORTCUTS.update(TABLE)


def _signs(codec: Codec, longest: int) -> bool:
    """Whether payloads of this codec are read here."""
    if type(codec) is Masked:
        return (
            type(codec.codec) is Sign and codec.codec.zero != "abstain" and longest <= LONGEST and not codec.codec.still
        )
    return type(codec) is Sign and codec.zero != "abstain"


def _writes(codec: Codec) -> bool:
    """Whether they are written here."""
    if type(codec) is Rounded:
        return _writes(codec.codec)
    if type(codec) is Chain:
        *before, last = codec.transforms
        if type(last) is Noise:
            signs = type(codec.codec) is Sign and codec.codec.scale != "l1" and isinstance(last.std, int | float)
            return signs and all(type(t) in MOMENTA for t in before)
        return all(type(t) in MOMENTA for t in codec.transforms) and _writes(codec.codec)
    if type(codec) is ErrorFeedback:
        inner = codec.codec
        return type(inner) is Masked or (type(inner) is Sign and not inner.still)
    return type(codec) in (Sign, Masked)


def _sign_of(codec: Codec) -> Sign:
    sign = codec.codec if isinstance(codec, Masked) else codec
    assert isinstance(sign, Sign)
    return sign


def _scales(codec: Codec, payload: Payload, ctx: Context) -> Tensor:
    """The scale of each row (..., B); zero where it abstained."""
    scale = _sign_of(codec).constant(ctx)
    return torch.where(payload.valid, payload["scale"] if scale is None else scale, 0.0).float()


def _signed(sign: Sign, x: Vector, keep: Tensor | None, ctx: Context, rows: Ragged) -> Payload:
    bits, valid, still = kernels.ragged_signs(x, sign.zeros(ctx), sign.marks, rows)
    planes = {"bits": bits} if still is None else {"bits": bits, "still": still}
    if sign.scale == "l1":
        planes["scale"] = scale = kernels.ragged_mean_abs(x, keep, rows)
        valid = valid & torch.isfinite(scale)
    return Payload(valid, planes)


def _is_average(momentum: Transform) -> bool:
    """Whether its direction is a weighted sum of momentum and gradient, which is kept, too."""
    return not isinstance(momentum, Adam) and not (isinstance(momentum, Momentum) and momentum.nesterov)


def _averaged(
    momentum: Transform, sign: Sign, x: Vector, state: State, ctx: Context, rows: Ragged
) -> tuple[Payload, State]:
    """The signs of a momentum, and the new one, in one pass where there is a kernel for that."""
    voted, kept = _weights(momentum)
    given = state["momentum"], x, voted, kept, sign.zeros(ctx), sign.marks, rows
    bits, valid, still, new = kernels.ragged_averaged_signs(*given)
    return Payload(valid, {"bits": bits} if still is None else {"bits": bits, "still": still}), {"momentum": new}


def _weights(momentum: Transform) -> tuple[tuple[float, float], tuple[float, float]]:
    """Those of momentum and gradient in what is voted on, and in what is kept."""
    if isinstance(momentum, LionMomentum):
        return (momentum.beta1, 1 - momentum.beta1), (momentum.beta2, 1 - momentum.beta2)
    assert isinstance(momentum, Ema | Momentum)
    own = (momentum.beta, 1 - momentum.beta) if isinstance(momentum, Ema) else (momentum.mu, 1.0)
    return own, own


def _noisy(noise: Noise, sign: Sign, x: Vector, ctx: Context, rows: Ragged) -> Payload:
    """Signs of x + b·ξ. Units of zeros are looked for where b is zero: noise leaves none."""
    assert isinstance(noise.std, int | float)
    zeros, drawn = sign.zeros(ctx), draw(ctx, Stream.NOISE)
    bits, valid = kernels.ragged_noisy_signs(x, noise.std, drawn, noise.distribution, zeros, rows)
    if not sign.marks:
        return Payload(valid, {"bits": bits})
    still = kernels.ragged_signs(x, True, True, rows)[2] if noise.std == 0 else None
    blank = torch.zeros(int(rows.unit_words[-1]), dtype=torch.int64, device=x.device)
    return Payload(valid, {"bits": bits, "still": blank if still is None else still})


def _moved(momentum: Transform, x: Vector, state: State, rows: Ragged) -> tuple[Tensor, State]:
    """A momentum of all rows; its formula is that of the transform."""
    if isinstance(momentum, Adam):
        update, moments = kernels.ragged_adam_step(x, moments_of(state), momentum.betas, rows)
        return update, state_of(moments)
    m, (voted, kept) = state["momentum"], _weights(momentum)
    out, new = kernels.ragged_average(m, voted[0], x, voted[1], rows)
    if kept != voted:
        new = kernels.ragged_average(m, kept[0], x, kept[1], rows)[1]
    if isinstance(momentum, Momentum) and momentum.nesterov:
        out = vector_of(x) + out * momentum.mu
    return out, {"momentum": new}
