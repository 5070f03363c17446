"""Fellows on Flower: the bits of the simulation, and a checkpoint that goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'gradvote[flower]'")

from flwr.app import ArrayRecord, ConfigRecord
from torch import nn

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.common.fellows import fellows_of
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.flower.model import Model, Outer
from gradvote.engines.flower.records import Decided
from gradvote.engines.flower.server import FederatedServer
from gradvote.engines.simulation import Simulation
from gradvote.wire import Kind
from tests.engines.flower.nodes import LR, gradient, grid_of, model, start, strategy_of

FELLOWS, LIAR, WORKERS = [(0, 1, 2), (2, 3, 4)], 3, 5
ALGORITHMS = [algorithms.noisy(algorithms.signsgd(), 0.01), algorithms.dist_ef_sgdm(bound=1.0)]


def like(net: nn.Module, worker: int, number: int) -> float:
    """All have nearly the same gradient; one has its negative."""
    for place, p in enumerate(net.parameters()):
        p.data.copy_(one(worker, number, p, place))
    return 0.0


def one(worker: int, number: int, p: torch.Tensor, place: int) -> torch.Tensor:
    alike = gradient(99, number, p.shape, place) + 0.3 * gradient(worker, number, p.shape, place)
    return -alike if worker == LIAR else alike


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=["vote", "error memory"])
def test_the_parameters_are_those_of_the_simulation(algorithm: Algorithm, tmp_path: Path) -> None:
    net = model()
    params = list(net.parameters())
    protocol = protocol_for(params, algorithm, 3, [n for n, _ in net.named_parameters()])
    simulation, optimizer = Simulation(protocol, WORKERS, fellows=FELLOWS), torch.optim.SGD(params, lr=LR)
    for number in range(1, 5):
        rows = []
        for worker in range(WORKERS):
            own = [one(worker, number, p, k) for k, p in enumerate(params)]
            rows.append(protocol.layout.flatten(own, torch.empty(protocol.layout.size)))
        direction = simulation.step(torch.stack(rows), number - 1, LR)
        for p in params:
            p.grad = torch.empty_like(p)
        protocol.layout.unflatten(direction, [p.grad for p in params if p.grad is not None])
        optimizer.step()
    assert simulation.doubted == {LIAR}

    grid = grid_of(algorithm, WORKERS, like)
    start(strategy_of(algorithm, fellows=FELLOWS, checkpoint=tmp_path / "c"), grid, 2)
    again = strategy_of(algorithm, fellows=FELLOWS, checkpoint=tmp_path / "c")
    found = start(again, grid, 4).arrays.to_torch_state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(found, params, strict=True))
    assert again.doubted == {LIAR}
    turned = strategy_of(algorithm, fellows=[(4, 3, 2), (2, 1, 0)], checkpoint=tmp_path / "c")
    start(turned, grid, 4)
    assert turned.doubted == {LIAR}
    for others in ([(0, 1)], ()):
        with pytest.raises(ValueError, match="was saved with fellows="):
            start(strategy_of(algorithm, fellows=others, checkpoint=tmp_path / "c"), grid, 5)


@pytest.mark.parametrize("algorithm", [algorithms.ef_signsgd(), algorithms.dist_ef_sgdm(0.0)], ids=["ef", "dist-ef"])
def test_a_doubted_client_hears_that_its_ballots_did_not_count(algorithm: Algorithm) -> None:
    grid = grid_of(algorithm, WORKERS, like, folder=None)
    strategy = strategy_of(algorithm, fellows=FELLOWS)
    start(strategy, grid, 3)
    server = strategy._server
    assert server is not None and [own.counted for own in server.log.values()] == [frozenset({0, 1, 2, 4})] * 3
    strategy.configure_train(4, ArrayRecord(), ConfigRecord(), grid)
    list(grid.send_and_receive(strategy.configure_evaluate(4, ArrayRecord(), ConfigRecord(), grid)))
    arrays = grid.contexts[grid.ids[LIAR]].state.array_records["gradvote.kept"]
    kept = np.concatenate([a.numpy().view(np.float32).ravel() for n, a in arrays.items() if "memory" in n[-6:]])
    sent = sum(torch.cat([one(LIAR, k, p, i).flatten() for i, p in enumerate(model().parameters())]) for k in (1, 2, 3))
    assert isinstance(sent, torch.Tensor)
    assert np.allclose(np.sort(kept), np.sort(sent.numpy()), atol=1e-5)


def test_doubted_ballots_are_no_voters_and_who_is_believed_again_is_told(caplog: pytest.LogCaptureFixture) -> None:
    algorithm = algorithms.signsgd()
    strategy = strategy_of(algorithm, fellows=[(0, 1, 2)], min_voters=3)

    def turning(net: nn.Module, worker: int, number: int) -> float:
        for place, p in enumerate(net.parameters()):
            own = gradient(99, number, p.shape, place)
            p.data.copy_(-own if worker == 2 and number == 1 else own)
        return float(worker)

    with caplog.at_level("WARNING", logger="flwr"):
        result = start(strategy, grid_of(algorithm, 3, turning), 3)
    assert result.undecided == [1] and "2 ballots count (1 more are doubted), but min_voters is 3" in caplog.text
    first, *_, last = result.train_metrics_clientapp.values()
    assert (first["voters"], first["doubted"], first["decided"], first["loss"]) == (2, 1, 0, 0.5)
    assert (last["voters"], last["doubted"], last["decided"]) == (3, 0, 1)
    assert (
        "worker 2 contradicts its fellows;" in caplog.text and "worker 2 contradicts its fellows no more" in caplog.text
    )


def test_no_believed_worker_has_more_than_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = algorithms.signsgd()
    strategy, seen = strategy_of(algorithm, fellows=FELLOWS, weights="examples", cap=0.25), []
    decide = FederatedServer.decide

    def watched(self: FederatedServer, *args: Any) -> Decided:
        seen.append(args[2])
        return decide(self, *args)

    monkeypatch.setattr(FederatedServer, "decide", watched)
    start(strategy, grid_of(algorithm, WORKERS, like), 2)
    assert seen == [dict.fromkeys((0, 1, 2, 4), 0.25)] * 2


def test_a_failed_round_leaves_the_tally_as_it_was() -> None:
    server = FederatedServer(algorithms.signsgd(), 0, Outer(0.1), Model({"w": np.zeros(500, np.float32)}))
    server.fellows = fellows_of([(0, 1)])
    assert server.fellows is not None
    server.tally = server.fellows.init()
    ballots = {}
    for worker in (0, 1):
        ctxs = server.protocol.contexts(0, worker, 0.1)
        payloads, _ = server.protocol.encode(torch.ones(500), server.protocol.init_worker(torch.ones(500)), ctxs)
        planes = server.protocol.planes(Kind.BALLOT, ctxs)
        ballots[worker] = server.open(worker, server.protocol.send(Kind.BALLOT, payloads, planes, ctxs[0]), 0.1)
    heard = server.heard(ballots, 0.1)
    assert heard is not None and heard.tolist() == [[500], [500]] and server.tally.tolist() == [[0], [0]]
    server.close_undecided(0.1, heard)
    assert server.tally.tolist() == [[500], [500]]
