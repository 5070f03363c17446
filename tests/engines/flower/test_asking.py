"""Who is asked, by which number a node goes, and whose answer it is that the SuperLink gives in its own name."""

import pytest

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'gradvote[flower]'")

from flwr.app import ArrayRecord, ConfigRecord, Error, Message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode

from gradvote import algorithms
from tests.engines.flower.nodes import grid_of, model, start, strategy_of


def test_sampling_is_a_function_of_the_seed_and_all_that_are_asked_share_one_record() -> None:
    algorithm = algorithms.signsgd()
    asked = []
    for _ in range(2):
        strategy = strategy_of(algorithm, fraction_train=0.5, fraction_evaluate=0, min_train_nodes=1)
        grid = grid_of(algorithm, 6)
        chosen = []
        for number in (1, 2, 3):
            arrays = ArrayRecord(model().state_dict() if number == 1 else {})
            messages = list(strategy.configure_train(number, arrays, ConfigRecord(), grid))
            chosen.append(sorted(strategy._asked.workers.values()))
            versions = {strategy.roster.versions[n] for n in strategy._asked.workers.values()}
            assert len({id(m.content) for m in messages}) == len(versions)
            strategy.aggregate_train(number, grid.send_and_receive(messages))
        asked.append(chosen)
    assert asked[0] == asked[1] and len({tuple(own) for own in asked[0]}) > 1 and {len(o) for o in asked[0]} == {3}


def test_two_nodes_that_say_they_are_one_worker() -> None:
    algorithm = algorithms.signsgd()
    grid = grid_of(algorithm, 3)
    grid.contexts[grid.ids[2]].node_config["partition-id"] = 0
    strategy = strategy_of(algorithm)
    start(strategy, grid, 1)
    assert sorted(strategy.roster.nodes) == [0, 1]


def test_numbers_are_given_to_nodes_without_a_partition() -> None:
    algorithm = algorithms.signsgd()
    grid = grid_of(algorithm, 3)
    grid.partitions = False
    grid.restart()
    strategy = strategy_of(algorithm)
    start(strategy, grid, 2)
    assert sorted(strategy.roster.nodes) == [0, 1, 2]


def test_what_the_superlink_answers_for_a_node_is_that_nodes_reason(caplog: pytest.LogCaptureFixture) -> None:
    algorithm = algorithms.signsgd()
    grid = grid_of(algorithm, 4)
    strategy = strategy_of(algorithm, fraction_evaluate=0)
    start(strategy, grid, 1)
    messages = list(strategy.configure_train(2, ArrayRecord(), ConfigRecord(), grid))
    for number, message in enumerate(messages):
        message.metadata.__dict__["_message_id"] = f"message {number}"
    answers = list(grid.send_and_receive(messages[:2]))
    gone = Message(Error(ErrorCode.NODE_UNAVAILABLE, "Error: Node Unavailable"), reply_to=messages[2])
    gone.metadata.__dict__["_src_node_id"] = SUPERLINK_NODE_ID
    gone.metadata.__dict__["_reply_to_message_id"] = "message 2"
    strategy.aggregate_train(2, [*answers, gone])
    assert strategy.abstentions[2] == {
        2: "the SuperLink has no answer of it: Error: Node Unavailable",
        3: "no answer within 7 s",
    }


def test_a_round_that_takes_most_of_its_time_says_so(caplog: pytest.LogCaptureFixture) -> None:
    algorithm = algorithms.signsgd()
    strategy, grid = strategy_of(algorithm, fraction_evaluate=0), grid_of(algorithm, 3)
    start(strategy, grid, 1)
    messages = list(strategy.configure_train(2, ArrayRecord(), ConfigRecord(), grid))
    strategy._begun -= 4.0
    with caplog.at_level("WARNING", logger="flwr"):
        strategy.aggregate_train(2, grid.send_and_receive(messages))
    assert "of the 7 s that there are" in caplog.text
