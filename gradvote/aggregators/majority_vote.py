"""The majority vote over signs."""

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.aggregators.weights import check_weights, weights_of
from gradvote.core import Aggregator, Codec, Context, Payload
from gradvote.errors import unknown
from gradvote.rng import Stream, draw
from gradvote.staging import to_host

TIES = ("random", "positive", "abstain")


@dataclass(frozen=True)
class MajorityVote(Aggregator):
    """sign(Σ w_i·sign(x_i)) over the workers whose block is valid; a zero or unsent coordinate is no vote.

    By Proposition 1 of Chen et al. 2020 the sign of the coordinate-wise median. A tie, also where nobody voted, is
    "random" (a fair public bit), "positive" or "abstain" (zero). Bernstein et al. 2018. `weights` default to 1.
    `still=True`: a unit (`Context.units`) on which nobody voted is no tie, and becomes zero.
    """

    tie: Literal["random", "positive", "abstain"] = "random"
    weights: tuple[float, ...] | None = None
    still: bool = False

    def __post_init__(self) -> None:
        check_weights(self.weights)
        if self.tie not in TIES:
            raise unknown("rule for ties", self.tie, TIES)

    def tolerates(self, num_workers: int) -> int:
        heaviest = sorted((self.weights or (1.0,) * num_workers)[:num_workers], reverse=True)
        return sum(2 * total < sum(heaviest) for total in accumulate(heaviest))

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        weights = weights_of(self.weights, ctx)
        if weights is not None:
            valid = valid & (weights > 0).view(-1, *[1] * (valid.dim() - 1))
        votes = x.sign() * valid[..., None]
        total = torch.zeros_like(x[0])
        for i, vote in enumerate(votes):
            total = total + (vote if weights is None else vote * weights[i])
        n = x.shape[-1]
        tied = total == 0
        decided = torch.where(tied, self._tie_values(ctx, n), total.sign())
        if self.still:
            blank = kernels.pack_bits((votes == 0).all(0))
            decided = _outside(decided, kernels.whole_units(blank, n, ctx.units), ctx, n)
        return torch.where(valid.any(0)[..., None], decided, torch.nan).float()

    def vote(self, words: Tensor, counted: Tensor | None, valid: Tensor, ctx: Context, n: int) -> Tensor:
        """The same on packed signs (M, ..., B, W), equal weights; `counted` marks the coordinates spoken on."""
        won, tied = self.winners(words, counted, valid, ctx, n)
        decided = kernels.unpack_signs(won, n)
        if self.tie == "abstain":
            decided = torch.where(kernels.unpack_bits(tied, n), 0.0, decided)
        decided = _outside(decided, self.silent(counted, valid, ctx, n), ctx, n)
        return torch.where(valid.any(0)[..., None], decided, torch.nan)

    def winners(
        self, words: Tensor, counted: Tensor | None, valid: Tensor, ctx: Context, n: int
    ) -> tuple[Tensor, Tensor]:
        """Words (..., B, W) of the winners, ties broken, and words that mark the ties."""
        can_tie = counted is not None or _is_even(valid)
        ties = self._tie_words(ctx, n) if can_tie else torch.zeros_like(words[0])
        return kernels.majority(words, counted, valid, ties)

    def silent(self, counted: Tensor | None, valid: Tensor, ctx: Context, n: int) -> Tensor:
        """Words (..., B, U) that mark the units on which nobody spoke: none without `still`, or where all did."""
        if counted is None or not self.still:
            width = kernels.num_words(ctx.units.count(n))
            return torch.zeros(*valid.shape[1:], width, dtype=torch.int64, device=valid.device)
        spoke, everyone = torch.zeros_like(counted[0]), _all(valid)
        for own, flag in zip(counted, valid, strict=True):
            spoke |= own if everyone else own.where(flag[..., None], 0)
        return kernels.whole_units(spoke.bitwise_not_(), n, ctx.units)

    def ties(self, up: Codec, ballots: Payload, ctx: Context, n: int) -> int:
        undecided = up.reduce(ballots, replace(self, tie="abstain"), ctx, n) == 0
        if self.still and (not undecided.is_cpu or bool(undecided.any())):
            undecided &= up.reduce(ballots, replace(self, tie="positive"), ctx, n) != 0
        return int(to_host([undecided.sum()])[0])

    def _tie_words(self, ctx: Context, n: int) -> Tensor:
        if self.tie == "random":
            return kernels.random_bits(draw(ctx.as_server(), Stream.TIE), n)
        ones = kernels.pack_bits(torch.ones(n, dtype=torch.bool, device=ctx.block.device))
        return ones.expand(*ctx.block.shape, -1)

    def _tie_values(self, ctx: Context, n: int) -> Tensor:
        if self.tie == "abstain":
            return torch.zeros((), device=ctx.block.device, dtype=torch.float32)
        return kernels.unpack_signs(self._tie_words(ctx, n), n)


def _outside(x: Tensor, marked: Tensor, ctx: Context, n: int) -> Tensor:
    """x (..., B, n) with zeros in the units marked in words (..., B, U)."""
    if marked.is_cpu and not bool(marked.any()):
        return x
    return torch.where(kernels.unpack_bits(kernels.outside_units(marked, n, ctx.units), n), x, 0.0)


def _is_even(valid: Tensor) -> bool:
    """Whether the number of valid workers (M, ..., B) is even for some block, or may be: a card is not asked."""
    if _all(valid):
        return len(valid) % 2 == 0
    return not valid.is_cpu or bool((valid.sum(0) % 2 == 0).any())


def _all(valid: Tensor) -> bool:
    """Whether all are known to be valid without waiting for a card."""
    return valid.is_cpu and bool(valid.all())


SAMPLES = (
    MajorityVote(),
    MajorityVote("positive"),
    MajorityVote("abstain"),
    MajorityVote("random", (1.0, 2.0, 0.5, 3.0, 1.5, 0.0, 0.25)),
    MajorityVote(still=True),
    MajorityVote("positive", (1.0, 2.0, 0.5, 3.0, 1.5, 0.0, 0.25), still=True),
)
