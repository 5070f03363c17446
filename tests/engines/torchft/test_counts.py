import pytest
import torch

from gradvote import algorithms, wire
from gradvote.engines.protocol import protocol_for
from gradvote.engines.torchft.counts import ReplicaCounts, ReplicaTally, invalid_blocks
from gradvote.wire import Kind


@pytest.mark.parametrize("spoiled", [(), (0,), (1, 2), (0, 1, 2)])
def test_blocks_that_abstain_are_counted(spoiled: tuple[int, ...]) -> None:
    params = [torch.zeros(n) for n in (5, 65, 7)]
    protocol = protocol_for(params, algorithms.signum(), 0)
    gradients = [torch.full_like(p, torch.nan) if i in spoiled else torch.ones_like(p) for i, p in enumerate(params)]
    flat = torch.zeros(protocol.layout.size)
    protocol.layout.flatten(gradients, out=flat)
    ctxs = protocol.contexts(0, 0, 1.0)
    payloads, _ = protocol.encode(flat, protocol.init_worker(flat), ctxs)
    body = wire.pack(payloads, protocol.planes(Kind.BALLOT, ctxs)).numpy().tobytes()
    assert invalid_blocks(body, protocol.layout) == len(spoiled)


def test_counts_by_worker() -> None:
    tallies = ReplicaTally()
    tallies.commit({0: 0, 1: 3}, silent={2}, malformed=())
    tallies.commit({0: 1}, silent={1, 2}, malformed={1})
    tallies.refuse(2, "a reason")
    stats = tallies.stats(2, (10, 20))
    assert stats.workers == {0: ReplicaCounts(2, blocks=1), 1: ReplicaCounts(1, 1, 1, 3), 2: ReplicaCounts(abstained=2)}
    assert (stats.committed, stats.refused, stats.bytes_sent, stats.bytes_received) == (2, 1, 10, 20)
    assert stats.notes == ((2, "not taken: a reason"),)
