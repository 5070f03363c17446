"""Votes on packed rows of unequal length: what `aggregators.majority_vote` does, for all groups in one call."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote import kernels
from gradvote.aggregators.majority_vote import MajorityVote
from gradvote.codecs.sign import Sign
from gradvote.core import Codec, Context, Payload
from gradvote.ragged import Ragged
from gradvote.rng import Stream, draw
from gradvote.staging import CPU


def elect(
    up: Codec,
    rule: MajorityVote,
    down: Sign,
    ballots: Payload,
    bits: Tensor,
    spoken: Tensor | None,
    ctx: Context,
    rows: Ragged,
) -> Payload:
    """The winners' bits and flags, where they are what `down` sends."""
    won, _ = _winners(rule, bits, spoken, ballots.valid, ctx, rows)
    planes = {"bits": won}
    if down.still:
        planes["still"] = still = _silent(rule, spoken, ballots.valid, rows)
        if spoken is not None and isinstance(up, Sign):
            still *= torch.from_numpy(_marked(ballots["still"], rows))
    return Payload(ballots.valid.any(0), planes)


def vote(rule: MajorityVote, bits: Tensor, spoken: Tensor | None, valid: Tensor, ctx: Context, rows: Ragged) -> Tensor:
    """The decided signs (d,): zero where nothing was, NaN in rows without a voter."""
    won, tied = _winners(rule, bits, spoken, valid, ctx, rows)
    silent = _silent(rule, spoken, valid, rows)
    keep = kernels.ragged_outside_units(silent, rows) if bool(silent.any()) else None
    if rule.tie == "abstain":
        keep = ~tied if keep is None else keep & ~tied
    out = torch.empty(rows.size, dtype=torch.float32, device=CPU)
    scale = torch.where(valid.any(0), 1.0, torch.nan)
    kernels.ragged_unpack(won, keep, torch.ones(rows.num_rows, dtype=torch.float32, device=CPU), out, rows)
    for row in scale.isnan().nonzero()[:, 0].tolist():
        out[int(rows.offsets[row]) : int(rows.offsets[row + 1])] = torch.nan
    return out


def _winners(
    rule: MajorityVote, bits: Tensor, spoken: Tensor | None, valid: Tensor, ctx: Context, rows: Ragged
) -> tuple[Tensor, Tensor]:
    """Words (W,) of the winners, ties broken, and words that mark the ties.

    Where other workers abstain in one row than in the next, what they abstain on counts as not spoken on.
    """
    alike = bool((valid == valid[:, :1]).all())
    if not alike:
        counted = torch.from_numpy(rows.of_words(valid.numpy()))
        spoken = counted if spoken is None else counted & spoken
        valid = torch.ones_like(valid)
    can_tie = spoken is not None or int(valid[:, 0].sum()) % 2 == 0
    ties = _ties(rule, ctx, rows) if can_tie else torch.zeros_like(bits[0])
    counted_on = None if spoken is None else spoken.expand_as(bits)[:, None]
    won, tied = kernels.majority(bits[:, None], counted_on, valid[:, :1], ties[None])
    return won[0], tied[0]


def _marked(still: Tensor, rows: Ragged) -> NDArray[np.int64]:
    """1 for each word (U,) of a group in which some ballot marks a unit, else 0.

    In the others no word says that a row without a voter is silent: no flag of such a row is read.
    """
    some = np.bitwise_or.reduce(still.numpy(), 0) != 0
    begins = rows.unit_words[rows.groups[:-1]]
    groups = np.logical_or.reduceat(some, begins)
    return np.repeat(groups, np.diff(rows.unit_words[rows.groups])).astype(np.int64)


def _ties(rule: MajorityVote, ctx: Context, rows: Ragged) -> Tensor:
    if rule.tie == "random":
        return kernels.ragged_random_bits(draw(ctx.as_server(), Stream.TIE), rows)
    ones = torch.full((int(rows.words[-1]),), -1, dtype=torch.int64, device=ctx.block.device)
    ends, masks = rows.tails
    ones[torch.from_numpy(ends)] = torch.from_numpy(masks)
    return ones


def _silent(rule: MajorityVote, spoken: Tensor | None, valid: Tensor, rows: Ragged) -> Tensor:
    """Words (U,) that mark the units on which nobody spoke: none without `still`, or where all did."""
    if spoken is None or not rule.still:
        return torch.zeros(int(rows.unit_words[-1]), dtype=torch.int64, device=valid.device)
    everyone = bool(valid.all())
    flags = None if everyone else torch.from_numpy(rows.of_words(valid.numpy()))
    spoke = torch.zeros_like(spoken[0])
    for i, own in enumerate(spoken):
        spoke |= own if flags is None else own & flags[i]
    return kernels.ragged_whole_units(spoke.bitwise_not_(), rows)
