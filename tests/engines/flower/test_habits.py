"""What users of FedAvg do without a thought: each is handled as it is there, or answered by one sentence."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'gradvote[flower]'")

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod
from flwr.server import Server, SimpleClientManager

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.flower import GradVote, NanSafeMedian, client_mod
from gradvote.privacy import Gaussian
from tests.engines.flower.nodes import LocalGrid, model

NOISY = algorithms.noisy(algorithms.signsgd(), 0.01)
States = Mapping[str, Any]


def lessened(state: States) -> States:
    """What a client returns that has trained all floats."""
    return {name: own - 0.1 if own.is_floating_point() else own for name, own in state.items()}


def grid_of(
    back: Callable[[States], Any] = lessened,
    algorithm: Algorithm = NOISY,
    metrics: Callable[[int], dict[str, Any]] = lambda _: {"num-examples": 5},
    mods: Any = None,
    beside: dict[str, Any] | None = None,
    **options: Any,
) -> LocalGrid:
    """Three clients that return `back` of the state they get."""
    app = ClientApp(mods=mods if mods is not None else [client_mod(algorithm, reproducible=True, **options)])

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        arrays = ArrayRecord(back(message.content["arrays"].to_torch_state_dict()))
        own = MetricRecord(metrics(int(context.node_config["partition-id"])))
        return Message(RecordDict({"arrays": arrays, "metrics": own, **(beside or {})}), reply_to=message)

    @app.query()
    def count(message: Message, context: Context) -> Message:
        return Message(RecordDict({"labels": MetricRecord({"n": 3})}), reply_to=message)

    return LocalGrid([app] * 3)


def start(
    grid: LocalGrid, given: Any = None, rounds: int = 2, strategy: type[GradVote] = GradVote, **options: Any
) -> Any:
    begun = ArrayRecord(model().state_dict() if given is None else given)
    made = strategy(options.pop("algorithm", NOISY), **{"lr": 0.03, "fraction_evaluate": 0.0, **options})
    return made.start(grid, begun, num_rounds=rounds, timeout=7)


def reason(result: Any, worker: int = 0) -> str:
    assert result.undecided == sorted(result.abstentions)
    return str(result.abstentions[1][worker])


@pytest.mark.parametrize(
    "algorithm", [NOISY, algorithms.dropsignsgd(), algorithms.dist_ef_sgdm()], ids=["noisy", "dropsign", "dist-ef"]
)
def test_what_a_client_left_as_it_was_stays_and_is_no_vote_of_noise(algorithm: Algorithm) -> None:
    def frozen(state: States) -> States:
        return {name: own - 0.1 if name.startswith("2.") else own for name, own in state.items()}

    result = start(grid_of(frozen, algorithm), algorithm=algorithm)
    before, after = model().state_dict(), result.arrays.to_torch_state_dict()
    assert [torch.equal(before[name], after[name]) for name in before] == [True, True, False, False]
    assert result.undecided == []


def test_who_trained_nothing_abstains_but_not_under_an_account(tmp_path: Path) -> None:
    result = start(grid_of(lambda state: state))
    assert "the arrays as it got them" in reason(result)
    pytest.importorskip("cryptography")
    private = client_mod(NOISY, folder=tmp_path, privacy=Gaussian(1.0, 1.0))
    assert start(grid_of(lambda state: state, mods=[private])).undecided == []


class Tied(nn.Module):
    """An embedding whose weight is the head's, too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight


def trained_tied(state: States) -> States:
    net = Tied()
    net.load_state_dict(state)
    net.head.weight.data.sub_(0.1)
    return net.state_dict()


def test_tied_weights_need_both_names() -> None:
    given = Tied().state_dict()
    result = start(grid_of(trained_tied), given, voted=[name for name, _ in Tied().named_parameters()])
    assert "the model ties them" in reason(result) and "remove_duplicate=False" in reason(result)
    both = [name for name, _ in Tied().named_parameters(remove_duplicate=False)]
    result = start(grid_of(trained_tied), given, voted=both, rounds=5)
    net = Tied()
    net.load_state_dict(result.arrays.to_torch_state_dict())
    assert torch.allclose(net.head.weight, given["head.weight"] - 5 * 0.03, atol=1e-5)


def test_a_frozen_copy_that_equals_nothing_trained_is_no_tie() -> None:
    given = {"w": torch.zeros(3), "target": torch.zeros(3), "n": torch.zeros((), dtype=torch.int64)}
    result = start(grid_of(lambda state: {**state, "w": state["w"] - 0.1}), given, voted=["w"])
    assert result.undecided == []


@pytest.mark.parametrize(
    ("back", "words"),
    [
        (lambda state: {name: own.half() for name, own in lessened(state).items()}, "as float16; float32 was expected"),
        (
            lambda state: {name: (own * 9).to(torch.int8) for name, own in state.items()},
            "as int8; float32 was expected",
        ),
        (lambda state: {f"module.{name}": own for name, own in state.items()}, "by the names they came with"),
        (lambda state: [own.numpy() for own in state.values()], "(4 others: 0, 1, 2, ...)"),
    ],
    ids=["half", "int8", "prefix", "list"],
)
def test_what_comes_back_otherwise_is_refused_by_name(back: Any, words: str) -> None:
    assert words in reason(start(grid_of(back)))


def test_wider_floats_and_other_orders_are_fine() -> None:
    back: Any = lambda state: {name: own.double() - 0.1 for name, own in reversed(state.items())}  # noqa: E731 # one line
    result = start(grid_of(back))
    assert result.undecided == [] and all(
        x.dtype == torch.float32 for x in result.arrays.to_torch_state_dict().values()
    )


@pytest.mark.parametrize("name", ["running_var", "num_batches_tracked"])
def test_statistics_cannot_be_voted_on_by_name_either(name: str) -> None:
    given = nn.BatchNorm1d(2).state_dict()
    with pytest.raises(ValueError, match="not moved by gradients"):
        start(grid_of(), given, voted=["weight", name])


def test_the_servers_copy_of_statistics_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="flwr"):
        start(grid_of(), nn.BatchNorm1d(2).state_dict(), voted=["weight", "bias"])
    assert caplog.text.count("'running_mean' and its like are not voted on") == 1


def test_a_strategy_that_starts_again_goes_on_and_takes_no_other_arrays(caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid, begun = GradVote(NOISY, fraction_evaluate=0.0), grid_of(), ArrayRecord(model().state_dict())
    first = strategy.start(grid, begun, num_rounds=1, timeout=7)
    with pytest.raises(ValueError, match="has a model already, after 1 rounds"):
        strategy.start(grid, ArrayRecord(lessened(model().state_dict())), num_rounds=3, timeout=7)
    assert sorted(strategy.start(grid, first.arrays, num_rounds=2, timeout=7).train_metrics_clientapp) == [2]
    with caplog.at_level("WARNING", logger="flwr"):
        strategy.start(grid, begun, num_rounds=2, timeout=7)
    assert "Nothing is trained: 2 rounds are over, and num_rounds=2 counts those" in caplog.text


def test_who_does_not_say_what_its_ballot_weighs_abstains() -> None:
    typo = start(grid_of(metrics=lambda _: {"num_examples": 5}), weights="examples")
    assert "have no number 'num-examples' above 0" in reason(typo)
    given = [{"num-examples": 5}, {"num-examples": float("nan")}, {"num-examples": 0}]
    grid = grid_of(metrics=lambda n: given[n])
    for fewest, without in ((1, []), (2, [1, 2])):  # what weighs nothing is none of the ballots that a round needs
        some = start(grid, weights="examples", min_voters=fewest)
        assert sorted(some.abstentions[1]) == [1, 2] and some.undecided == without


def test_a_metric_of_the_clients_with_the_name_of_a_count_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="flwr"):
        found = start(grid_of(metrics=lambda _: {"num-examples": 5, "voters": 0.5, "loss": 2.0}), rounds=1)
    assert "metric 'voters' is not shown" in caplog.text and "'loss'" not in caplog.text
    assert found.train_metrics_clientapp[1]["voters"] == 3 and found.train_metrics_clientapp[1]["loss"] == 2.0


@pytest.mark.parametrize("strategy", [GradVote(NOISY), NanSafeMedian()], ids=["GradVote", "NanSafeMedian"])
def test_flowers_older_loop_says_which_loop_is_meant(strategy: Any) -> None:
    with pytest.raises(TypeError, match=f"{type(strategy).__name__} is a strategy of Flower's loop over messages"):
        Server(client_manager=SimpleClientManager(), strategy=strategy).fit(1, None)


def test_no_record_of_the_users_own_takes_the_models_place() -> None:
    class Own(GradVote):
        def configure_train(self, *args: Any) -> Any:
            messages = list(super().configure_train(*args))
            for message in messages:
                message.content["arrays"] = ArrayRecord({n: own + 1 for n, own in model().state_dict().items()})
            return messages

    result = start(grid_of(), strategy=Own)
    assert "has a record 'arrays', where the train function gets the model" in reason(result)


def test_records_of_the_users_own_pass_both_ways() -> None:
    seen: list[list[str]] = []

    class Own(GradVote):
        def configure_train(self, *args: Any) -> Any:
            messages = list(super().configure_train(*args))
            messages[0].content["control"] = ArrayRecord([np.zeros(2)])
            messages[0].content["gradvote-like"] = ConfigRecord({"x": 1})
            return messages

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            found = list(replies)
            seen.extend(sorted(own.content) for own in found)
            return super().aggregate_train(server_round, found)

    def looks(message: Message, context: Context, call_next: Any) -> Message:
        seen.append(sorted(message.content))
        return call_next(message, context)  # type: ignore[no-any-return] # Flower's own has no types

    grid = grid_of(mods=[client_mod(NOISY), looks], beside={"info": ConfigRecord({"host": "a"})})
    assert start(grid, rounds=1, strategy=Own).undecided == []
    assert seen[0] == ["arrays", "config", "control", "gradvote-like"] and seen[-1] == ["gradvote", "info", "metrics"]


def test_queries_are_the_apps_own() -> None:
    grid = grid_of()
    asked = [Message(RecordDict({"c": ConfigRecord({"q": 1})}), node, "query") for node in grid.get_node_ids()]
    assert [answer.content["labels"]["n"] for answer in grid.send_and_receive(asked)] == [3, 3, 3]


@pytest.mark.parametrize("mods", [[], [LocalDpMod(1.0, 1.0, 1.0, 1e-5), client_mod(NOISY)]], ids=["none", "behind"])
def test_a_client_without_the_mod_or_with_another_before_it(mods: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="flwr"):
        start(grid_of(mods=mods), rounds=1, min_train_nodes=1, min_available_nodes=1)
    assert caplog.text.count("Where its ClientApp has no mods=[gradvote.flower.client_mod(algorithm)], or another") == 3


def test_a_train_function_that_returns_nothing() -> None:
    app = ClientApp(mods=[client_mod(NOISY)])
    app.train()(lambda message, context: None)  # type: ignore[arg-type, return-value] # what is tried here
    assert "returned NoneType; a flwr.app.Message was expected" in reason(start(LocalGrid([app] * 3)))


class Older(NumPyClient):
    """A client as Flower's older tutorials have it."""

    def fit(self, parameters: Any, config: Any) -> Any:
        return parameters, 1, {}


def test_older_clients_are_told_what_to_write(caplog: pytest.LogCaptureFixture) -> None:
    app = ClientApp(client_fn=lambda context: Older().to_client(), mods=[client_mod(NOISY)])
    with caplog.at_level("WARNING", logger="flwr"):
        result = start(LocalGrid([app] * 3), rounds=1)
    assert "made of a client_fn (NumPyClient, Client)" in reason(result)
    assert "decided NOTHING" in caplog.text and "raise start(timeout=)" not in caplog.text  # nobody was slow


def test_counters_above_those_of_float32_have_a_median() -> None:
    grid = grid_of(lambda state: {name: own + 1 for name, own in state.items()}, mods=[])
    begun = ArrayRecord([np.array([2**24, 2**40])])
    result = NanSafeMedian(fraction_evaluate=0.0).start(grid, begun, num_rounds=1)
    assert result.arrays.to_numpy_ndarrays()[0].tolist() == [2**24 + 1, 2**40 + 1]


@pytest.mark.parametrize("scale", [0.99, 0.0])
def test_arrays_that_are_taken_for_gradients_are_warned_of(scale: float, caplog: pytest.LogCaptureFixture) -> None:
    grid = grid_of(lambda state: {name: own * scale + 0.01 for name, own in state.items()})
    with caplog.at_level("WARNING", logger="flwr"):
        start(grid, rounds=1, update="gradient")
    assert caplog.text.count("returned nearly the arrays that it got") == (3 if scale else 0)


def test_layouts_in_memory_do_not_matter() -> None:
    def weights(kind: Any) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.Conv2d(3, 5, 3).to(memory_format=kind)
        result = start(grid_of(lambda state: {name: own * 0.9 for name, own in state.items()}), net.state_dict())
        return list(result.arrays.to_torch_state_dict().values())

    for one, other in zip(weights(torch.contiguous_format), weights(torch.channels_last), strict=True):
        assert torch.equal(one, other)
