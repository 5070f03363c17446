"""Masks: agreed without being sent, of the expected length, the kept bits in order."""

import pytest
import torch

from gradvote import kernels
from gradvote.codecs import Masked, Sign
from gradvote.schedules import Cosine, PerWorker
from tests.contract.parts import context, senders, updates

N = 300


def test_the_bits_sent_are_the_kept_signs_in_order() -> None:
    codec, ctx, x = Masked(0.3, Sign(zero="positive")), context(blocks=2), updates(2, N)
    payload, _ = codec.encode(x, {}, ctx)
    kept = kernels.unpack_bits(codec.mask(N, ctx), N)
    for b in range(2):
        signs = (x[b] >= 0)[kept[b]]
        sent = kernels.unpack_bits(payload["bits"][b], 64 * payload["bits"].shape[-1])
        assert sent[: len(signs)].tolist() == signs.tolist()
        assert not bool(sent[len(signs) :].any())
        (plane,) = codec.planes(N, ctx)
        assert int(plane.row[b]) == -(-len(signs) // 64)  # type: ignore[index]


def test_the_scale_counts_kept_coordinates_only() -> None:
    codec, ctx = Masked(0.3, Sign("l1")), context(blocks=1)
    kept = kernels.unpack_bits(codec.mask(N, ctx), N)
    x = torch.where(kept, 2.0, 1e6)
    payload, _ = codec.encode(x, {}, ctx)
    assert payload["scale"].tolist() == [[2.0]]


def test_nothing_kept() -> None:
    codec, ctx = Masked(2**-16, Sign("l1")), context(blocks=3)
    payload, _ = codec.encode(updates(3, 7), {}, ctx)
    assert payload["bits"].shape == (3, 0)
    assert payload["scale"].tolist() == [[0.0]] * 3
    assert bool((codec.decode(payload, ctx, 7) == 0).all())


def test_a_non_finite_value_that_is_not_kept_abstains_too() -> None:
    codec, ctx = Masked(0.3, Sign()), context(blocks=1)
    kept = kernels.unpack_bits(codec.mask(N, ctx), N)[0]
    x = torch.ones(1, N)
    x[0, int((~kept).nonzero()[0])] = torch.inf
    assert codec.encode(x, {}, ctx)[0].valid.tolist() == [False]


def test_granularity_keeps_whole_words() -> None:
    mask = Masked(0.5, Sign(), 64).mask(64 * 50, context(blocks=1))
    assert set(mask.flatten().tolist()) == {0, -1}


def test_keep_by_worker_and_by_step() -> None:
    counts = kernels.count_bits(Masked(PerWorker((0.1, 0.9)), Sign()).mask(6400, context(senders(2), 1)))[:, 0]
    assert counts.tolist() == pytest.approx([640, 5760], abs=150)
    early = Masked(Cosine(1.0, 10), Sign())
    assert int(kernels.count_bits(early.mask(640, context(step=0, blocks=1)))) == 640
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        early.mask(640, context(step=10, blocks=1))
