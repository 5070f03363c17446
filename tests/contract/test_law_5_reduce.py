"""Law 5: `reduce` equals aggregate-after-decode; what was not sent is no vote, and zero in a mean."""

import pytest
import torch

from gradvote import kernels
from gradvote.aggregators import MajorityVote, Mean
from gradvote.codecs import Masked, Sign
from gradvote.core import Aggregator, Codec, Payload, Units
from tests.contract.parts import AGGREGATORS, CODECS, blanked, context, flat, same, senders, updates

B = 3
UNITS = Units(27, torch.tensor([0, 5, 26]))
"""Of the blocks' zeros."""


def ballots(codec: Codec, num_workers: int, n: int) -> Payload:
    """Encoded ballots with units of zeros, of which some abstain; the last block has no voter."""
    x = blanked(updates(num_workers, B, n, seed=num_workers), UNITS)
    payload, _ = codec.encode(x, codec.init(x), context(senders(num_workers), B, units=UNITS))
    valid = torch.rand(num_workers, B, generator=torch.Generator().manual_seed(n)) < 0.7
    valid[:, 2] = False
    return Payload(payload.valid & valid, payload.planes)


@pytest.mark.parametrize("aggregator", flat(AGGREGATORS))
@pytest.mark.parametrize("codec", flat(CODECS))
def test_reduce_is_aggregate_after_decode(codec: Codec, aggregator: Aggregator) -> None:
    for num_workers, n in ((1, 65), (4, 65), (7, 1)):
        payload, ctx = ballots(codec, num_workers, n), context(senders(num_workers), B, units=UNITS)
        decoded = codec.decode(payload, ctx, n)
        expected = aggregator(decoded, payload.valid, ctx)
        assert same(codec.reduce(payload, aggregator, ctx, n), expected)
        assert bool(expected[2].isnan().all())
        assert bool((decoded[~payload.valid] == 0).all())


@pytest.mark.parametrize("scale", [1e-45, 3e-45, 1e-38, 1.0, 1e35])
def test_masked_signs_of_any_scale_are_exact(scale: float) -> None:
    codec, ctx, n = Masked(0.5, Sign("l1")), context(0, 1), 300
    signs = updates(1, n).sign()
    payload, _ = codec.encode(signs * scale, {}, ctx)
    kept = kernels.unpack_bits(codec.mask(n, ctx), n)
    sent = kernels.unpack_bits(kernels.expand(payload["bits"], codec.mask(n, ctx)), n)
    expected = torch.where(kept, torch.where(sent, payload["scale"], -payload["scale"]), 0.0)
    assert float(payload["scale"]) > 0 and same(codec.decode(payload, ctx, n), expected)


@pytest.mark.parametrize("zero", ["random", "positive", "abstain"])
@pytest.mark.parametrize("granularity", [1, 64])
def test_an_unsent_coordinate_is_no_vote(zero: str, granularity: int) -> None:
    """Counted by hand: two workers against one, with everybody's masks."""
    codec, n = Masked(0.5, Sign(zero=zero), granularity), 300  # type: ignore[arg-type]
    ctx = context(senders(3), 1)
    x = torch.tensor([1.0, 1.0, -1.0])[:, None, None].repeat(1, 1, n)
    payload, _ = codec.encode(x, {}, ctx)
    kept = kernels.unpack_bits(codec.mask(n, ctx), n)
    total = torch.where(kept, x, 0.0).sum(0)
    vote = codec.reduce(payload, MajorityVote("abstain"), ctx, n)
    assert same(vote, total.sign())
    assert bool((total == 0).any()) and bool((~kept).all(0).any())
    mean = codec.reduce(payload, Mean(), ctx, n)
    assert same(mean, total / 3)


@pytest.mark.parametrize("tie", ["random", "positive", "abstain"])
def test_exact_zeros_of_abstaining_signs_are_no_votes(tie: str) -> None:
    codec, ctx = Sign(zero="abstain"), context(senders(4), 1)
    x = torch.tensor([[0, 0, 0, -1], [0, 0, 2, -1], [0, -3, 2, 1], [0, 0, -2, 1]], dtype=torch.float32)[:, None]
    payload, _ = codec.encode(x, {}, ctx)
    vote = codec.reduce(payload, MajorityVote(tie), ctx, 4)[0]  # type: ignore[arg-type]
    assert vote[1:3].tolist() == [-1, 1]
    tied = vote[[0, 3]].tolist()
    assert tied == {"positive": [1, 1], "abstain": [0, 0]}.get(tie, [t for t in tied if abs(t) == 1])


def test_random_ties_are_fair_and_differ_between_coordinates() -> None:
    x = torch.tensor([1.0, -1.0])[:, None, None].repeat(1, 1, 4096)
    payload, _ = Sign().encode(x, {}, context(senders(2), 1))
    vote = Sign().reduce(payload, MajorityVote(), context(senders(2), 1), 4096)
    assert abs(float(vote.mean())) < 5 / 64
