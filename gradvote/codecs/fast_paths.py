"""The one table of shortcuts: what may be done in one pass, or on packed bits alone, with the bits of the plain way.

Parts and algorithms ask `core.shortcut`, which looks here by what is done and the exact types of the parts (a subclass
may do anything, and goes the plain way). An entry gives None where it does not serve for these parts or tensors.
Within `off` all goes the plain way, which defines the result; a contract test holds every entry to its bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.aggregators.bounded_mean import BoundedMean
from gradvote.aggregators.majority_vote import MajorityVote
from gradvote.aggregators.mean import Mean
from gradvote.aggregators.median import Median
from gradvote.aggregators.trimmed_mean import TrimmedMean
from gradvote.codecs.dense import Dense
from gradvote.codecs.error_feedback import ErrorFeedback, rate_of, ratio_of
from gradvote.codecs.masked import Masked
from gradvote.codecs.sign import Sign
from gradvote.core import SHORTCUTS, Codec, Context, Payload, State
from gradvote.kernels import Inertia
from gradvote.rng import Stream, draw
from gradvote.transforms.momentum import Momentum
from gradvote.transforms.noise import Noise

LEAST = 1e-37
"""A learning rate above this is not zero as a float32."""

Signs = Sign | Masked


def noisy_signs(
    noise: Noise, sign: Sign, x: Tensor, state: State, inner: State, ctx: Context
) -> tuple[Payload, State, State] | None:
    """Signs of x + b·ξ in one pass, where neither a scale nor a second plane needs the noisy values.

    Units of zeros are looked for where b is zero: noise leaves none.
    """
    if sign.scale == "l1" or sign.zero == "abstain":
        return None
    std, state = noise.std_of(x, state, ctx)
    bits, valid = kernels.noisy_pack_signs(x, std, draw(ctx, Stream.NOISE), noise.distribution, sign.zeros(ctx))
    if not sign.marks:
        return Payload(valid, {"bits": bits}), state, inner
    still = bits.new_zeros(*valid.shape, kernels.num_words(ctx.units.count(x.shape[-1])))
    if _may_be_zero(std):
        *_, still = kernels.still_pack_signs(x.expand(*valid.shape, -1), True, ctx.units)
        if isinstance(std, Tensor):
            still = still.where(std.eq(0).expand(valid.shape)[..., None], 0)
    return Payload(valid, {"bits": bits, "still": still}), state, inner


def moving_memory(
    momentum: Momentum, memory: ErrorFeedback, x: Tensor, state: State, inner: State, ctx: Context
) -> tuple[Payload, State, State] | None:
    """Momentum, error memory and signs in one pass."""
    found = _one_pass(memory, x, Inertia(state["momentum"], momentum.mu, momentum.nesterov), inner, ctx)
    if found is None:
        return None
    payload, inner, moved = found
    return payload, {"momentum": moved}, inner


def memory_of_signs(
    memory: ErrorFeedback, codec: Signs, x: Tensor, state: State, ctx: Context
) -> tuple[Payload, State] | None:
    """Error memory and signs in one pass."""
    found = _one_pass(memory, x, None, state, ctx)
    return None if found is None else found[:2]


def vote(codec: Signs, rule: MajorityVote, payload: Payload, ctx: Context, n: int) -> Tensor | None:
    """A vote on packed bits, where all count alike."""
    if not _votes(codec, rule):
        return None
    _, payload, spoken = _opened(codec, payload, ctx, n)
    return rule.vote(payload["bits"], spoken, payload.valid, ctx, n)


def mean(codec: Signs, rule: Mean | BoundedMean, payload: Payload, ctx: Context, n: int) -> Tensor | None:
    """The mean of what is decoded, without all of it standing beside each other."""
    if rule.weights is not None or type(sign_of(codec)) is not Sign:
        return None
    sign, payload, spoken = _opened(codec, payload, ctx, n)
    count = payload.valid.sum(0).float()
    count = count.where(count > 0, torch.nan)
    scales = sign.scales(payload, ctx)
    if isinstance(rule, BoundedMean):
        largest = scales if spoken is None else scales.where(kernels.count_bits(spoken) > 0, 0.0)
        scales = torch.minimum(scales, rule.bound(largest, payload.valid))
    return kernels.mean_signs(payload["bits"], spoken, n, scales, count)


def elect(codec: Signs, rule: MajorityVote, down: Sign, payload: Payload, ctx: Context, n: int) -> Payload | None:
    """The winners' bits, where they are what `down` sends: no float is made on the server."""
    if down.scale == "l1" or down.zero == "abstain" or rule.tie == "abstain" or (rule.still and not down.still):
        return None
    if not _votes(codec, rule):
        return None
    sign, payload, spoken = _opened(codec, payload, ctx, n)
    won, _ = rule.winners(payload["bits"], spoken, payload.valid, ctx, n)
    planes = {"bits": won}
    if down.still:
        quiet = spoken is None and sign.marks
        planes["still"] = payload["still"][0] if quiet else rule.silent(spoken, payload.valid, ctx, n)
    return Payload(payload.valid.any(0), planes)


def numbers(codec: Dense, rule: Mean | Median | TrimmedMean, payload: Payload, ctx: Context, n: int) -> Tensor:
    """Numbers read where they lie: these rules look at no block that abstains, so there is nothing to clear."""
    return rule(kernels.at_least_float32(payload["values"]), payload.valid, ctx)


def numbers_into(codec: Dense, payload: Payload, ctx: Context, n: int, out: Tensor) -> Tensor:
    """Numbers copied to where they are wanted; a card is not asked whether all blocks are valid."""
    out.copy_(payload["values"])
    valid = payload.valid
    return out if valid.is_cpu and bool(valid.all()) else out.masked_fill_(~valid[..., None], 0)


def decode_into(codec: Signs, payload: Payload, ctx: Context, n: int, out: Tensor) -> Tensor | None:
    """Signs written where they are wanted."""
    if isinstance(codec, Masked):
        keep = codec.mask(n, ctx)
        codec.codec.decode_kept_into(codec.expanded(payload, keep), keep, ctx, n, out)
    else:
        codec.decode_kept_into(payload, None, ctx, n, out)
    return out


TABLE: dict[tuple[object, ...], Callable[..., Any]] = {
    ("transform and encode", Noise, Sign): noisy_signs,
    ("transform and encode", Momentum, ErrorFeedback): moving_memory,
    ("encode", ErrorFeedback, Sign): memory_of_signs,
    ("encode", ErrorFeedback, Masked): memory_of_signs,
    ("reduce", Sign, MajorityVote): vote,
    ("reduce", Masked, MajorityVote): vote,
    ("reduce", Sign, Mean): mean,
    ("reduce", Masked, Mean): mean,
    ("reduce", Sign, BoundedMean): mean,
    ("reduce", Masked, BoundedMean): mean,
    ("reduce", Dense, Mean): numbers,
    ("reduce", Dense, Median): numbers,
    ("reduce", Dense, TrimmedMean): numbers,
    ("combine", Sign, MajorityVote, Sign): elect,
    ("combine", Masked, MajorityVote, Sign): elect,
    ("decode into", Sign): decode_into,
    ("decode into", Masked): decode_into,
    ("decode into", Dense): numbers_into,
}
SHORTCUTS.update(TABLE)


@contextmanager
def off() -> Iterator[None]:
    """Within, every thread of the process goes the plain way: for tests and measurements."""
    table = dict(SHORTCUTS)
    SHORTCUTS.clear()
    try:
        yield
    finally:
        SHORTCUTS.update(table)


def sign_of(codec: Codec) -> Codec:
    """The signs inside a mask, or the codec itself."""
    return codec.codec if type(codec) is Masked else codec


def _votes(codec: Signs, rule: MajorityVote) -> bool:
    """Whether the vote needs the bits alone."""
    sign = sign_of(codec)
    return type(sign) is Sign and sign.scale != "l1" and rule.weights is None


def _opened(codec: Signs, payload: Payload, ctx: Context, n: int) -> tuple[Sign, Payload, Tensor | None]:
    """The signs, a payload with a bit for every coordinate, and words that mark those a ballot speaks on; None: all."""
    if isinstance(codec, Sign):
        return codec, payload, codec.spoken(payload, None, ctx, n)
    keep = codec.mask(n, ctx)
    payload = codec.expanded(payload, keep)
    return codec.codec, payload, codec.codec.spoken(payload, keep, ctx, n)


def _one_pass(
    memory: ErrorFeedback, x: Tensor, inertia: Inertia | None, state: State, ctx: Context
) -> tuple[Payload, State, Tensor | None] | None:
    """The payload of p = momentum(x) + ratio·e, the new memory and momentum: for signs of float32 tensors."""
    codec, e, n = memory.codec, state["memory"], x.shape[-1]
    sign, tensors = sign_of(codec), (x, e) if inertia is None else (x, e, inertia.momentum)
    alike = all(t.dtype == torch.float32 and t.shape == x.shape for t in tensors)
    if not alike or type(sign) is not Sign or sign.zero == "abstain" or sign.still:
        return None
    lr = rate_of(ctx, state)
    ratio = ratio_of(state["lr"], lr) if memory.track_lr else torch.ones_like(lr)
    keep = codec.mask(n, ctx) if isinstance(codec, Masked) else None
    scale = sign.constant(ctx)
    scale = None if scale is None else scale.float()
    step = kernels.feedback_step(x, e, ratio, inertia, keep, sign.zeros(ctx), scale)
    planes = {"bits": step.bits} if scale is not None else {"bits": step.bits, "scale": step.scale[..., None]}
    payload = Payload(step.valid, planes)
    if isinstance(codec, Masked):
        payload = codec.compacted(payload, n, ctx)
    settled = not memory.track_lr or (not isinstance(ctx.lr, Tensor) and ctx.lr > LEAST)
    new = memory.written(state, step.valid, step.memory, lr, state["inner"], settled)
    return payload, new, step.momentum


def _may_be_zero(std: float | Tensor) -> bool:
    """Whether any of these is zero; a card is not asked."""
    return not std.is_cpu or bool(std.eq(0).any()) if isinstance(std, Tensor) else std == 0
