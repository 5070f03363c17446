"""Flower's rounds: the bits of the simulation, and what a client's death, silence, nonsense or return costs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'gradvote[flower]'")

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.flower import NanSafeMedian, client_mod
from gradvote.privacy import Account, Gaussian
from tests.engines.flower.nodes import (
    LR,
    LocalGrid,
    app_of,
    difference,
    gradient,
    gradients,
    grid_of,
    model,
    start,
    strategy_of,
)

ALGORITHMS = [
    algorithms.noisy(algorithms.signsgd(), 0.01),
    algorithms.signum(),
    algorithms.dist_ef_sgdm(),
    algorithms.dropsignsgd(),
    algorithms.mediansgd(),
]


def simulated(algorithm: Algorithm, workers: int, rounds: int) -> list[torch.Tensor]:
    net = model()
    params = list(net.parameters())
    protocol = protocol_for(params, algorithm, 3, [n for n, _ in net.named_parameters()])
    simulation = Simulation(protocol, workers)
    optimizer = torch.optim.SGD(params, lr=LR)
    for number in range(1, rounds + 1):
        rows = []
        for worker in range(workers):
            own = [gradient(worker, number, p.shape, k) for k, p in enumerate(params)]
            rows.append(protocol.layout.flatten(own, torch.empty(protocol.layout.size)))
        direction = simulation.step(torch.stack(rows), number - 1, LR)
        for p in params:
            p.grad = torch.empty_like(p)
        protocol.layout.unflatten(direction, [p.grad for p in params])
        optimizer.step()
    return params


def same(arrays: ArrayRecord, params: list[torch.Tensor]) -> bool:
    own = arrays.to_torch_state_dict().values()
    return all(torch.equal(a, b) for a, b in zip(own, params, strict=True))


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a.up).__name__ + type(a.aggregate).__name__)
def test_the_parameters_are_those_of_the_simulation(algorithm: Algorithm) -> None:
    result = start(strategy_of(algorithm), grid_of(algorithm), 4)
    assert same(result.arrays, simulated(algorithm, 5, 4))
    assert result.undecided == [] and not any(result.abstentions.values())
    assert result.train_metrics_clientapp[4]["loss"] == 2.0 and result.train_metrics_clientapp[4]["voters"] == 5


def test_a_killed_server_goes_on_bit_by_bit_and_so_do_the_memories(tmp_path: Path) -> None:
    algorithm = algorithms.dropsignsgd()
    whole = start(strategy_of(algorithm), grid_of(algorithm, folder=tmp_path / "whole"), 6)
    grid = grid_of(algorithm, folder=tmp_path / "clients")
    start(strategy_of(algorithm, checkpoint=tmp_path / "server"), grid, 3)
    strategy = strategy_of(algorithm, checkpoint=tmp_path / "server")
    strategy.aggregate_train = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt())  # type: ignore[method-assign]
    grid.restart()
    with pytest.raises(KeyboardInterrupt):
        start(strategy, grid, 6)  # the ballots of round 4 are cast, and die with the server
    grid.restart()
    result = start(strategy_of(algorithm, checkpoint=tmp_path / "server"), grid, 6)
    assert same(result.arrays, list(whole.arrays.to_torch_state_dict().values()))
    assert sorted(result.train_metrics_clientapp) == [4, 5, 6]
    for i in range(5):
        with np.load(tmp_path / "whole" / f"client-{i}.npz") as a, np.load(tmp_path / f"clients/client-{i}.npz") as b:
            for name in a.files:
                assert name == "facts" or np.array_equal(a[name], b[name]), name


def test_who_fails_lies_or_is_silent_abstains_with_a_reason() -> None:
    algorithm = algorithms.signsgd()
    grid = grid_of(algorithm, 6)

    def faults(i: int, answer: Message) -> Message | None:
        record = answer.content.config_records["gradvote"]
        if not record["ballot"]:
            return answer
        if i == 1:
            return None
        if i == 2:
            record["ballot"] = bytes(len(record["ballot"]))
        if i == 3:
            answer.content = RecordDict({"gradvote": ConfigRecord({"worker": "three"})})
        if i == 4:
            record["worker"] = 0
        return answer

    grid.faults = faults
    result = start(strategy_of(algorithm), grid, 2)
    reasons = result.abstentions[2]
    assert sorted(reasons) == [1, 2, 3, 4] and result.undecided == []
    assert "no answer within 7 s" in reasons[1] and "begins with" in reasons[2]
    assert "'worker'" in reasons[3] and "answers as worker 0" in reasons[4]


def test_a_client_that_raises_and_one_with_nan_cost_only_their_own_votes() -> None:
    algorithm = algorithms.signsgd()

    def train(net: torch.nn.Module, worker: int, number: int) -> float:
        if worker == 1:
            raise RuntimeError("no data today")
        loss = gradients(net, worker, number)
        if worker == 2:
            for p in net.parameters():
                p.data.fill_(torch.nan)
        return loss

    result = start(strategy_of(algorithm), grid_of(algorithm, 5, train), 3)
    assert all(bool(torch.isfinite(x).all()) for x in result.arrays.to_torch_state_dict().values())
    assert result.abstentions[3] == {1: "its ClientApp failed: RuntimeError: no data today"}


def test_a_round_without_enough_ballots_changes_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    algorithm = algorithms.dist_ef_sgdm()
    grid = grid_of(algorithm, 4)
    strategy = strategy_of(algorithm, min_voters=3)
    lost = {2}

    def faults(i: int, answer: Message) -> Message | None:
        server = strategy._server
        return None if i < 2 and server is not None and server.version + 1 in lost else answer

    grid.faults = faults
    with caplog.at_level("WARNING", logger="flwr"):
        result = start(strategy, grid, 3)
    assert result.undecided == [2] and "decided NOTHING" in caplog.text
    assert result.train_metrics_clientapp[2]["decided"] == 0


def test_what_a_lost_ballot_held_stays_in_the_memory() -> None:
    algorithm = algorithms.ef_signsgd()
    kept: list[dict[str, Any]] = []
    for lose in (False, True):
        grid = grid_of(algorithm, 3, folder=None)
        strategy = strategy_of(algorithm, min_voters=1)
        if lose:
            grid.faults = lambda i, answer: None if i == 0 and answer.content["gradvote"]["ballot"] else answer
        start(strategy, grid, 1)
        grid.faults = lambda _, answer: answer
        strategy.configure_train(2, ArrayRecord(), ConfigRecord(), grid)
        list(grid.send_and_receive(strategy.configure_evaluate(2, ArrayRecord(), ConfigRecord(), grid)))
        arrays = grid.contexts[grid.ids[0]].state.array_records["gradvote.kept"]
        kept.append({n: a.numpy().view(np.float32) for n, a in arrays.items() if n.endswith("memory")})
    sent_and_kept, all_kept = kept
    flat = np.concatenate([gradient(0, 1, p.shape, k).flatten().numpy() for k, p in enumerate(model().parameters())])
    whole = np.concatenate([own.flatten() for own in all_kept.values()])
    assert np.allclose(np.sort(whole), np.sort(flat), atol=1e-6)
    assert any(not np.allclose(sent_and_kept[name], all_kept[name]) for name in all_kept)


def test_a_client_that_missed_rounds_gets_their_decisions_and_a_new_one_the_model() -> None:
    algorithm = algorithms.signsgd()
    grid = grid_of(algorithm, 4)
    strategy = strategy_of(algorithm, fraction_evaluate=0)
    start(strategy, grid, 2)
    grid.gone = {grid.ids[3]}
    start(strategy, grid, 5)
    grid.gone = set()
    grid.contexts[grid.ids[2]].state = RecordDict()  # its SuperNode was started anew
    grid.down.clear()
    result = start(strategy, grid, 7)
    assert "no model of this run" in result.abstentions[6][2] and result.abstentions[7] == {}
    assert same(result.arrays, list(strategy._server.model.params))  # type: ignore[union-attr]
    news = [strategy._server.since(v) for v in (-1, 1, 4)]  # type: ignore[union-attr]
    assert [own and len(own) for own in news] == [None, None, 3]  # six decisions are longer than so small a model


def test_bits_both_ways(tmp_path: Path) -> None:
    algorithm = algorithms.signsgd()
    grid = grid_of(algorithm, 3)
    start(strategy_of(algorithm, fraction_evaluate=0), grid, 3)
    d = sum(p.numel() for p in model().parameters())
    assert max(grid.up[-3:]) < d / 8 + 500 and max(grid.down[-3:]) < d / 8 + 900


def test_local_steps_by_differences_and_weights_by_examples() -> None:
    algorithm = algorithms.noisy(algorithms.signsgd(), 0.01)
    strategy = strategy_of(algorithm, update="difference", weights="examples", cap=0.4, local_steps=5)
    result = start(strategy, grid_of(algorithm, 4, difference), 3)
    assert result.undecided == [] and result.evaluate_metrics_clientapp[3]["total"] == pytest.approx(
        sum(float(x.sum()) for x in result.arrays.to_torch_state_dict().values()), rel=1e-5
    )


def test_other_algorithms_and_arrays_nobody_can_vote_on_are_refused() -> None:
    grid = grid_of(algorithms.signum(), 3)
    with pytest.raises(ValueError, match="voted names"):
        start(strategy_of(algorithms.signsgd(), voted=["nonsense"]), grid, 1)
    counted = ArrayRecord({"n": ArrayRecord(torch.nn.BatchNorm1d(2).state_dict())["num_batches_tracked"]})
    with pytest.raises(ValueError, match=r"voted=\[name for name"):
        strategy_of(algorithms.signsgd()).start(grid, counted)
    with pytest.raises(TypeError, match="takes an algorithm"):
        client_mod("signsgd")  # type: ignore[arg-type]
    strategy = strategy_of(algorithms.signsgd(), min_available_nodes=1, min_train_nodes=1)
    messages = list(strategy.configure_train(1, ArrayRecord(model().state_dict()), ConfigRecord(), grid))
    assert messages == []  # nobody could be enrolled: their client_mod votes by another algorithm


def test_the_median_that_a_nan_does_not_ruin() -> None:
    def train(net: torch.nn.Module, worker: int, number: int) -> float:
        difference(net, worker, number)
        if worker == 1:
            for p in net.parameters():
                p.data.fill_(torch.nan)
        return 0.0

    grid = LocalGrid([app_of(train, []) for _ in range(5)])
    strategy = NanSafeMedian(fraction_evaluate=0.0)
    result = strategy.start(grid, ArrayRecord(model().state_dict()), num_rounds=1)
    start_at = list(model().parameters())
    for k, (own, begun) in enumerate(zip(result.arrays.to_torch_state_dict().values(), start_at, strict=True)):
        given = torch.stack([begun.detach() - 0.1 * gradient(i, 1, begun.shape, k) for i in (0, 2, 3, 4)])
        middle = given.sort(0).values[1:3].mean(0)
        assert torch.allclose(own, middle)


def test_an_account_stops_a_client_and_a_ballot_sent_again_is_charged_once(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    algorithm = algorithms.signsgd()
    privacy = Gaussian(5.0, 1.0, max_epsilon=2.0)
    allowed = Account(privacy, sum(p.numel() for p in model().parameters())).affordable
    grid = LocalGrid([app_of(gradients, [client_mod(algorithm, folder=tmp_path, privacy=privacy)]) for _ in range(3)])
    strategy = strategy_of(algorithm, fraction_evaluate=0)
    start(strategy, grid, 1)
    for _ in range(3):  # the round is asked for again and again: its answers were lost
        messages = strategy.configure_train(2, ArrayRecord(), ConfigRecord(), grid)
        answers = list(grid.send_and_receive(messages))
        assert not [m.error.reason for m in answers if m.has_error()]
        ballots = {m.content["gradvote"]["ballot"] for m in answers}
        assert len(ballots) == 3
    grid.restart()
    result = start(strategy, grid, allowed + 2)
    assert 4 < allowed < 40 and result.undecided == [allowed + 1, allowed + 2]
    assert all("max_epsilon=2" in reason for reason in result.abstentions[allowed + 2].values())
    with pytest.raises(ValueError, match="nobody's to repeat"):
        client_mod(algorithm, privacy=privacy, reproducible=True)
