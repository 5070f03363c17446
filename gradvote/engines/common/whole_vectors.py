"""Rules that need the whole vector: all blocks of a worker are joined before the rule is called."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradvote.core import Algorithm, Context, Payload, State
from gradvote.layout import Layout


def combine(
    algorithm: Algorithm, layout: Layout, ballots: Sequence[Payload], states: Sequence[State], ctxs: Sequence[Context]
) -> tuple[Sequence[Payload], Sequence[State]]:
    """Server: ballots (M, B, ...) of each group -> decision (B, ...) of each group, by one call of the rule.

    A worker counts if any of its blocks is valid. Of what it has no block for (a layer that its loss did not reach, an
    overflow) its vector holds zeros: leaving such workers out would let a few liars choose who is left. Nothing is
    decided on a block that half of these workers or more have not sent, so that a minority moves no layer alone.
    """
    if not layout.groups:
        return [], []
    valid = torch.cat([ballot.valid for ballot in ballots], -1)
    voters = valid.any(-1)
    x = _joined(algorithm, layout, ballots, ctxs)
    block = torch.zeros(1, dtype=torch.int64, device=x.device)
    ctx = Context(ctxs[0].seed, ctxs[0].step, block, ctxs[0].sender, 1.0, ctxs[0].attempt)
    found = algorithm.aggregate(x[:, None], voters[:, None], ctx)[0]
    decided = (2 * valid.sum(0) > voters.sum()).split([len(group.blocks) for group in layout.groups])
    pairs = [
        algorithm.decide(y.where(sent[:, None], torch.nan), ballot, state, ctx)
        for y, sent, ballot, state, ctx in zip(layout.views(found), decided, ballots, states, ctxs, strict=True)
    ]
    return [p for p, _ in pairs], [s for _, s in pairs]


def _joined(algorithm: Algorithm, layout: Layout, ballots: Sequence[Payload], ctxs: Sequence[Context]) -> Tensor:
    """The vectors (M, d); zero where a block is not valid, as `decode` gives it."""
    parts = zip(ballots, ctxs, layout.groups, strict=True)
    return torch.cat([algorithm.up.decode(b, c, g.n).flatten(-2) for b, c, g in parts], -1)
