"""Rounds that arrive τ steps late: the same bits in every engine, saved and resumed under way, given up loudly."""

from typing import Any

import pytest
import torch
from torch import nn

from gradvote import algorithms, local_steps
from gradvote.engines.common.ways import join
from gradvote.engines.overlap import Rates, settings_of, with_settings
from tests.engines import delay_workers
from tests.forked import spawn


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return spawn(delay_workers.everything, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", delay_workers.NAMES)
@pytest.mark.parametrize("delay", delay_workers.DELAYS)
def test_delayed_rounds_equal_the_simulation_bit_for_bit(ranks: list[Any], name: str, delay: int) -> None:
    expected = delay_workers.simulated(name, delay, 2)
    for own in ranks:
        found, arrived = own["rounds"][f"{name}, {delay}"]
        assert torch.equal(found, expected)
        assert [step for step, here in enumerate(arrived, 1) if here] == [3 + delay, 6 + delay]
    assert not torch.equal(expected, delay_workers.simulated(name, 0, 2))


@pytest.mark.slow
def test_a_round_that_is_under_way_is_saved_and_resumed_bit_for_bit(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["resumed"] == {0: True, 3: True, 4: True, 5: True}


@pytest.mark.slow
def test_what_all_agreed_on_is_seen_while_each_worker_is_ahead(ranks: list[Any]) -> None:
    """From the step on in which a round is sent: then its outcome is settled, though it has not arrived."""
    rounds = [step // delay_workers.H for step in range(1, delay_workers.H * delay_workers.ROUNDS + 1)]
    expected = [delay_workers.simulated("dist-ef-sgdm", 2, 2, n) for n in range(delay_workers.ROUNDS + 1)]
    for own in (each["agreed"] for each in ranks):
        assert all(torch.equal(found, expected[n]) for found, n in zip(own["seen"], rounds, strict=True))
        assert own["same"] and own["in_fragments"] and len(own["said"]) == 5
        assert all("Within `with local.agreed()` the model is what all agreed on" in text for text in own["said"])


@pytest.mark.slow
def test_fragments_arrive_late_in_turn(ranks: list[Any]) -> None:
    (arrived, same, starts), (_, other, ends) = (own["in_fragments"] for own in ranks)
    assert [step for step, here in enumerate(arrived, 1) if here] == [5, 8, 11]
    assert same and other and torch.equal(starts, ends)


@pytest.mark.slow
def test_a_delayed_round_that_fails_is_given_up_with_words(ranks: list[Any]) -> None:
    """Where it would have arrived, on every rank, and with the start as it was."""
    for own in ranks:
        lost = own["lost"]
        assert lost["said"] and lost["steps"] == delay_workers.H + 2
        assert lost["start"] and not lost["under_way"]
    assert "rank 1 failed with RuntimeError: the cable" in ranks[0]["lost"]["said"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"delay": 4}, "0 <= delay < every=4; got delay=4"),
        ({"delay": -1}, "at least 0; got -1"),
        ({"delay": 1, "mix": 1.0}, "0 <= mix < 1; got 1.0"),
        ({"delay": 1, "engine": "elastic"}, "A delay needs workers that stay"),
        ({"delay": 1, "engine": "torchft"}, "A delay needs workers that stay"),
        ({"mix": 0.25}, "mix=0.25 is what a worker keeps .* but delay is 0"),
        ({"scaler": torch.amp.GradScaler("cpu")}, "start − now, is not scaled"),
    ],
)
def test_what_cannot_be_delayed_is_one_sentence(options: dict[str, Any], text: str) -> None:
    model = nn.Linear(2, 1)
    inner = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match=text):
        local_steps.attach(model, inner, algorithms.sgd(), every=4, outer=lambda p: torch.optim.SGD(p, 0.7), **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"every": 4.0}, "every is the number of steps to a round, a whole number from 1 on; got 4.0"),
        ({"delay": True}, "delay is .* a whole number from 0 on; got True"),
        ({"mix": "half", "delay": 1}, "mix is the share .* a number; got 'half'"),
        ({"engine": None}, r"engine is a name \(distributed, elastic, torchft, fsdp\) or a function .* got None"),
        ({"engine": "torchft"}, "needs torchft's manager"),
        ({"outer": torch.optim.SGD}, "got the class SGD, which would step at its default rate"),
        ({"outer": None}, "got NoneType"),
    ],
)
def test_what_is_of_another_type_is_one_sentence(options: dict[str, Any], text: str) -> None:
    model = nn.Linear(2, 1)
    inner = torch.optim.SGD(model.parameters(), lr=1.0)
    given = {"every": 4, "outer": lambda params: torch.optim.SGD(params, 0.7), **options}
    with pytest.raises(TypeError, match=text):
        local_steps.attach(model, inner, algorithms.sgd(), **given)


def test_an_outer_optimizer_must_step_alone() -> None:
    model = nn.Linear(2, 1)
    inner = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="LBFGS evaluates the loss again within its step"):
        local_steps.attach(model, inner, algorithms.sgd(), every=4, outer=lambda params: torch.optim.LBFGS([*params]))


def test_a_rate_that_is_a_tensor_is_that_of_the_sending() -> None:
    """Schedules change it in its place; the optimizer keeps the very tensor."""
    rate = torch.tensor(0.5)
    outer = torch.optim.SGD([nn.Parameter(torch.ones(1))], rate, foreach=False)
    rates, sent = Rates(outer), settings_of(outer)
    rate.fill_(0.25)
    assert rates.param_groups[0]["lr"] == 0.5
    with with_settings(outer, sent):
        assert float(outer.param_groups[0]["lr"]) == 0.5
    assert outer.param_groups[0]["lr"] is rate and float(rate) == 0.25


def test_a_fragment_is_back_before_the_next_one_goes() -> None:
    model = nn.Linear(2, 1)
    inner = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="2 steps later; got delay=2"):
        local_steps.attach_fragments(
            model, inner, algorithms.sgd(), every=4, fragments=2, outer=torch.optim.SGD, delay=2
        )


def test_joining_keeps_what_is_alike_and_takes_the_agreed_where_there_is_no_number() -> None:
    own, agreed = torch.tensor([0.1, 1.0, torch.nan, torch.inf]), torch.tensor([0.1, 3.0, 2.0, 4.0])
    assert join(own, agreed, 0.3)
    torch.testing.assert_close(own, torch.tensor([0.1, 2.4, 2.0, 4.0]))
    assert own[0] == agreed[0] and not join(own, agreed, 0.0) and torch.equal(own, agreed)
