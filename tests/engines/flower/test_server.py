"""The server reads all ballots of a round in one go, where they lie, and decides what it would of each by itself."""

import numpy as np
import pytest
import torch

pytest.importorskip("flwr")

from gradvote import algorithms, wire
from gradvote.core import Algorithm
from gradvote.engines.common.payloads import stack
from gradvote.engines.flower.model import Model, Outer
from gradvote.engines.flower.server import FederatedServer
from gradvote.engines.flower.strategy import GradVote
from gradvote.wire import Kind, WireError

WORKERS = (0, 2, 5)
ALGORITHMS = [algorithms.signsgd(), algorithms.dist_ef_sgdm(), algorithms.dropsignsgd(), algorithms.mediansgd()]


def server_of(algorithm: Algorithm) -> FederatedServer:
    arrays = {"w": np.zeros((7, 50), np.float32), "b": np.zeros(3, np.float32)}
    return FederatedServer(algorithm, 0, Outer(0.1), Model(arrays))


def messages_of(server: FederatedServer) -> dict[int, bytes]:
    protocol, made = server.protocol, {}
    for worker in WORKERS:
        ctxs = protocol.contexts(0, worker, 0.1)
        update = torch.randn(protocol.layout.size, generator=torch.Generator().manual_seed(worker))
        update[:30] = torch.nan if worker == 2 else 1.0  # a block abstains
        payloads, _ = protocol.encode(update, protocol.init_worker(update), ctxs)
        made[worker] = protocol.send(Kind.BALLOT, payloads, protocol.planes(Kind.BALLOT, ctxs), ctxs[0])
    return made


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.up.__class__.__name__)
def test_a_decision_is_that_of_ballots_read_one_by_one(algorithm: Algorithm) -> None:
    server = server_of(algorithm)
    protocol, messages, each = server.protocol, messages_of(server), []
    for worker, message in messages.items():
        own = protocol.contexts(0, worker, 0.1)
        each.append(protocol.receive(Kind.BALLOT, message, protocol.planes(Kind.BALLOT, own), own[0]))
    ctxs = protocol.contexts(0, torch.tensor(WORKERS)[:, None], 0.1)
    decision, _ = protocol.combine([stack(own) for own in zip(*each, strict=True)], server.memory, ctxs)
    expected = protocol.send(Kind.DECISION, decision, protocol.planes(Kind.DECISION, ctxs), ctxs[0])
    opened = {worker: server.open(worker, message, 0.1) for worker, message in reversed(messages.items())}
    assert server.decide(opened, 0.1, None).message == expected


def test_a_ballot_is_opened_where_it_lies() -> None:
    server = server_of(algorithms.signsgd())
    for worker, message in messages_of(server).items():
        assert server.open(worker, message, 0.1).obj is message


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.up.__class__.__name__)
def test_a_ballot_of_another_length_is_refused_whoever_came_before(algorithm: Algorithm) -> None:
    server = server_of(algorithm)
    messages = messages_of(server)
    server.open(0, messages[0], 0.1)
    header = server.protocol.header(Kind.BALLOT, server.protocol.contexts(0, 5, 0.1)[0])
    longer = wire.frame(torch.cat([wire.unframe(messages[5], header), torch.zeros(1, dtype=torch.uint8)]), header)
    with pytest.raises(WireError, match=r"has \d+ bytes; \d+ were expected"):
        server.open(5, longer, 0.1)


def test_a_rate_is_a_number_and_numpys_is_sent_as_pythons() -> None:
    """Flower's records take plain numbers only, and say so in the first round."""
    assert type(GradVote(algorithms.signum(), lr=np.float32(0.5)).lr(0, 0)) is float  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lr is a number; got None"):
        GradVote(algorithms.signum(), lr=None)  # type: ignore[arg-type]
