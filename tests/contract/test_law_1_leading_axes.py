"""Law 1: leading axes are invisible. M workers simulated = one call on (M, B, n)."""

import pytest
import torch

from gradvote.core import Aggregator, Algorithm, Codec, Transform, Units
from tests.contract.parts import (
    AGGREGATORS,
    ALGORITHMS,
    CODECS,
    TRANSFORMS,
    blanked,
    context,
    flat,
    row,
    rows,
    same,
    same_payload,
    senders,
    updates,
)

M, B = 3, 2
SIZES = (1, 65, 130)
UNITS = Units(27, torch.tensor([0, 20]))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("transform", flat(TRANSFORMS))
def test_transforms(transform: Transform, n: int) -> None:
    together = transform.init(torch.zeros(M, B, n))
    alone = [transform.init(torch.zeros(B, n)) for _ in range(M)]
    for step in range(2):
        x = updates(M, B, n, seed=step)
        x[1, 0, 0] = torch.nan if step == 1 else x[1, 0, 0]
        out, together = transform(x, together, context(senders(M), B, step))
        for i in range(M):
            own, alone[i] = transform(x[i], alone[i], context(i, B, step))
            assert same(out[i], own)
            assert same(row(together, i), alone[i])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("codec", flat(CODECS))
def test_codecs(codec: Codec, n: int) -> None:
    together = codec.init(torch.zeros(M, B, n))
    alone = [codec.init(torch.zeros(B, n)) for _ in range(M)]
    for step in range(2):
        x = blanked(updates(M, B, n, seed=step), UNITS, step)
        x[1, 0, 0] = torch.inf if step == 1 else x[1, 0, 0]
        many = context(senders(M), B, step, units=UNITS)
        payload, together = codec.encode(x, together, many)
        decoded = codec.decode(payload, many, n)
        for i in range(M):
            one = context(i, B, step, units=UNITS)
            own, alone[i] = codec.encode(x[i], alone[i], one)
            assert same_payload(rows(payload, i), own)
            assert same(decoded[i], codec.decode(own, one, n))
            assert same(row(together, i), alone[i])
            assert [(p.name, p.dtype) for p in codec.planes(n, many)] == [
                (p.name, p.dtype) for p in codec.planes(n, one)
            ]


@pytest.mark.parametrize("aggregator", flat(AGGREGATORS))
@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_aggregators(aggregator: Aggregator, num_workers: int) -> None:
    """Replicas (R) and blocks (B) are both invisible."""
    x, valid = blanked(updates(num_workers, 4, B, 65), UNITS), torch.rand(num_workers, 4, B) < 0.8
    valid[:, 3, 1] = False
    x = torch.where(valid[..., None], x, 0.0)
    together = aggregator(x, valid, context(senders(num_workers), B, units=UNITS))
    assert together.shape == (4, B, 65)
    for r in range(4):
        for b in range(B):
            ctx = context(senders(num_workers), torch.tensor([10 + b]), units=Units(27, UNITS.phase[b : b + 1]))
            alone = aggregator(x[:, r, b : b + 1], valid[:, r, b : b + 1], ctx)
            assert same(together[r, b : b + 1], alone)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_algorithms(name: str) -> None:
    """Blocks one at a time, workers one at a time, and learning rates of their own per block."""
    algorithm, n = ALGORITHMS[name], 70
    rates = torch.tensor([0.1, 0.02])
    worker, server = algorithm.up.init(torch.zeros(M, B, n)), algorithm.down.init(torch.zeros(B, n))
    workers = [algorithm.up.init(torch.zeros(M, 1, n)) for _ in range(B)]
    servers = [algorithm.down.init(torch.zeros(1, n)) for _ in range(B)]
    for step in range(2):
        x, lr = updates(M, B, n, seed=step), rates / (1 + step)
        direction, worker, server = _round(algorithm, x, worker, server, torch.tensor([10, 11]), step, lr)
        for b in range(B):
            block = torch.tensor([10 + b])
            one, workers[b], servers[b] = _round(
                algorithm, x[:, b : b + 1], workers[b], servers[b], block, step, float(lr[b])
            )
            assert same(direction[b : b + 1], one)


def _round(algorithm: Algorithm, x, worker, server, block, step, lr):  # type: ignore[no-untyped-def]
    ctx = context(senders(len(x)), block, step, lr)
    ballots, worker = algorithm.encode(x, worker, ctx)
    decision, server = algorithm.combine(ballots, server, ctx, x.shape[-1])
    direction, worker = algorithm.decode(decision, worker, ctx, x.shape[-1])
    return direction, worker, server
