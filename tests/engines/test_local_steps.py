"""Local steps: what an engine does with gradients it does with the way that a worker's own steps led."""

from contextlib import nullcontext
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
import torch
from torch import nn

import gradvote
from gradvote import algorithms, local_steps
from tests.engines import delay_workers, local_workers
from tests.engines.elastic.processes import processes
from tests.forked import spawn


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return spawn(local_workers.everything, 2)


def test_every_one_with_the_raw_gradient_is_the_engine_itself(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["raw_equals_engine"] == dict.fromkeys(local_workers.NAMES, True)


def test_rounds_equal_the_simulation_bit_for_bit(ranks: list[Any]) -> None:
    for name, expected in local_workers.simulated_rounds(2).items():
        first, second = (own["rounds"][name] for own in ranks)
        assert len(first) == local_workers.ROUNDS
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), name
        assert torch.equal(first[-1], expected), name


def test_resuming_in_the_middle_of_a_round_is_bit_exact(ranks: list[Any]) -> None:
    assert [own["resumed"] for own in ranks] == [True, True]


def test_another_number_of_steps_is_refused(ranks: list[Any]) -> None:
    for own in ranks:
        differing, loaded = own["refused_every"]
        assert differing.startswith("ValueError") and "every 5 (on rank 0: 4)" in differing
        assert "with 3 steps to a round; here it is version 1 with 5" in loaded


def test_what_is_not_finite_abstains_and_is_over_with_the_round(ranks: list[Any]) -> None:
    (first, no_words, _, counts), (second, words, finite, _) = (own["not_finite"] for own in ranks)
    assert all(torch.equal(a, b) and bool(a.isfinite().all()) for a, b in zip(first, second, strict=True))
    assert no_words == [] and len(words) == 1 and "begin anew" in words[0] and finite
    assert sum(counts) > 0
    assert not torch.equal(first[-1], first[-2])


def test_frozen_parameters_stay_and_new_ones_are_refused(ranks: list[Any]) -> None:
    for own in ranks:
        stayed, refused = own["freezing"]
        assert stayed and "was frozen when the votes began and is not now" in refused
        assert "was added after the votes had begun" in own["newcomers"]


def test_who_has_not_moved_abstains(ranks: list[Any]) -> None:
    assert [own["still"] for own in ranks] == [True, True]


def test_a_step_that_a_scaler_skipped_counts(ranks: list[Any]) -> None:
    (first, scale), (second, smaller) = (own["scaler"] for own in ranks)
    assert len(first) == 2 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert smaller == scale // 2


def test_ranks_begin_alike_and_the_start_is_handed_to_the_model(ranks: list[Any]) -> None:
    (first, said), (second, _) = (own["statistics"] for own in ranks)
    assert torch.equal(first, second) and "Enter the local steps, `with local:`" in said


def test_a_delayed_round_equals_the_simulation_bit_for_bit(ranks: list[Any]) -> None:
    name, delay = delay_workers.NAMES[0], delay_workers.DELAYS[1]
    expected = delay_workers.simulated(name, delay, 2)
    assert not torch.equal(expected, delay_workers.simulated(name, 0, 2))
    for own in ranks:
        found, arrived = own["delayed"]
        assert torch.equal(found, expected)
        assert [step for step, here in enumerate(arrived, 1) if here] == [3 + delay, 6 + delay]


def test_fragments_take_turns(ranks: list[Any]) -> None:
    first, second = (own["in_fragments"] for own in ranks)
    assert first["voted"] == [False, True, False, True, False, True, False, True] and first["rounds"] == [2, 2]
    assert first["same"] and second["same"], "resumed in the middle"
    assert torch.equal(first["starts"], second["starts"]) and all(first["sizes"])


class Counted:
    """An engine of a script's own: the outer optimizer's step with the worker's own way, and nothing saved."""

    def __init__(self, model: nn.Module, outer: torch.optim.Optimizer, algorithm: object, refuse: int = 0) -> None:
        self.model, self.outer, self.refuse = model, outer, refuse

    def step(self) -> bool:
        self.refuse -= 1
        if self.refuse >= 0:
            return False
        self.outer.step()
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def attached(**options: Any) -> tuple[nn.Module, local_steps.LocalSteps]:
    model = nn.Linear(2, 1)
    inner = torch.optim.SGD(model.parameters(), lr=1.0)
    given = {"every": 2, "outer": torch.optim.SGD(model.parameters(), lr=0.5), "engine": Counted, **options}
    return model, local_steps.attach(model, inner, algorithms.sgd(), **given)


def test_the_outer_optimizer_steps_from_the_start() -> None:
    model, local = attached()
    before = model.weight.detach().clone()
    for _ in range(2):
        with torch.no_grad():
            model.weight += 1.0
        voted = local.step()
    assert voted
    torch.testing.assert_close(model.weight.detach(), before + 1.0)


def test_a_round_that_was_not_taken_is_tried_again() -> None:
    model, local = attached(refuse=1)
    before = model.weight.detach().clone()
    for expected in (False, False, True):
        with torch.no_grad():
            model.weight += 1.0
        assert local.step() is expected
    torch.testing.assert_close(model.weight.detach(), before + 1.5)
    assert local.round == 1


def test_the_agreed_is_seen_in_the_middle_of_a_round() -> None:
    model, local = attached()
    start = model.weight.detach().clone()
    for step in range(4):
        with torch.no_grad():
            model.weight += 1.0
        local.step()
        before = model.weight.detach().clone()
        with local.agreed():
            torch.testing.assert_close(model.weight.detach(), start + (step + 1) // 2)
            with pytest.raises(RuntimeError, match=r"call state_dict\(\) before or after"):
                local.state_dict()
        assert torch.equal(model.weight, before)


@pytest.mark.parametrize("failing", [False, True])
def test_where_the_start_has_moved_on_the_model_follows(failing: bool) -> None:
    """As of a replica that heals while its round is refused, or fails."""

    class Healing(Counted):
        def step(self) -> bool:
            with torch.no_grad():
                self.model.weight.fill_(7.0)  # type: ignore[operator, union-attr]  # a parameter
            if failing:
                raise TimeoutError
            return False

    model, local = attached(engine=Healing, every=1)
    with nullcontext() if not failing else pytest.raises(TimeoutError):
        assert not local.step()
    assert bool((model.weight == 7.0).all()) and local.round == 0 and local.left == 1
    assert local._seen == local._versions()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"every": 0}, "at least 1; got 0"),
        ({"every": 2.0}, "a whole number from 1 on; got 2.0"),
        ({"outer": 0.7}, "outer= takes an optimizer"),
        ({"outer": torch.optim.SGD([nn.Parameter(torch.zeros(1))])}, "on other parameters than the model's"),
        ({"engine": "elastik"}, "elastic"),
    ],
)
def test_what_cannot_be_is_one_sentence(options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        attached(**options)


def test_the_gradient_itself_has_no_second_step() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="every is 1; got 4"):
        gradvote.local_steps.attach(model, None, algorithms.sgd(), every=4, outer=torch.optim.SGD, engine=Counted)


def test_a_killed_worker_comes_back_at_the_agreed_parameters(tmp_path: Path) -> None:
    """Its inner optimizer begins anew; the others have theirs, and all are alike after every round."""
    with processes(tmp_path, 3, 2, 24, deadline=15.0, timeout=30.0, every=3) as run:
        run.until(lambda: run.at(2) >= 4)
        run.signal(1, SIGKILL)
        before = run.at(2)
        run.until(lambda: run.at(2) >= before + 4)
        run.start(1)
        run.finish()
        assert len(run.check_alike()) == 24
        assert run.lines(1, "joined")[0] >= before
        assert run.lines(1, "inner") == [3 * (24 - run.lines(1, "joined")[0])] and run.lines(0, "inner") == [72]
