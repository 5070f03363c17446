"""Values by step and sender; both ends evaluate them alike."""

import math

import pytest
import torch

from gradvote.core import SERVER, Context
from gradvote.rng import senders_of
from gradvote.schedules import Constant, Cosine, PerWorker, Schedule, Step, evaluate


def context(sender: int | torch.Tensor, step: int = 0) -> Context:
    return Context(1, step, torch.zeros(1, dtype=torch.int64), sender)


def test_constant() -> None:
    assert [Constant(0.3)(step, sender) for step, sender in ((0, 0), (9, SERVER))] == [0.3, 0.3]


def test_step_divides_the_start_value() -> None:
    """Chen et al.'s schedule: divided by 2, 10, 20 of the start value from 1000, 3000, 5000 on."""
    schedule = Step(1.0, (1000, 3000, 5000), (2.0, 10.0, 20.0))
    steps = (0, 999, 1000, 2999, 3000, 4999, 5000, 10**6)
    assert [schedule(s) for s in steps] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1, 0.05, 0.05]


def test_cosine() -> None:
    schedule = Cosine(2.0, 100)
    assert [schedule(s) for s in (0, 50, 100, 1000)] == pytest.approx([2.0, 1.0, 0.0, 0.0])
    values = [schedule(s) for s in range(101)]
    assert values == sorted(values, reverse=True)
    assert schedule(25) == pytest.approx(1 + math.sqrt(0.5))


def test_per_worker() -> None:
    schedule = PerWorker((0.1, 0.2))
    assert [schedule(5, sender) for sender in (0, 1)] == [0.1, 0.2]
    for sender in (2, -1, SERVER):
        with pytest.raises(ValueError, match="2 values"):
            schedule(0, sender)


@pytest.mark.parametrize("value", [0.25, Constant(0.25), Step(1.0, (3,), (4.0,)), PerWorker((0.25, 0.25, 0.25))])
@pytest.mark.parametrize("sender", [1, torch.arange(3)[:, None], torch.tensor(2)])
def test_evaluate_has_the_shape_of_the_sender(value: float | Schedule, sender: int | torch.Tensor) -> None:
    found = evaluate(value, context(sender, step=4))
    assert found.dtype == torch.float64
    assert torch.equal(found, torch.full(torch.as_tensor(sender).shape, 0.25, dtype=torch.float64))


def test_evaluate_by_worker() -> None:
    assert evaluate(PerWorker((0.1, 0.2, 0.3)), context(torch.tensor([[2], [0]]))).tolist() == [[0.3], [0.1]]


def test_the_server_has_no_value_of_its_own() -> None:
    with pytest.raises(ValueError, match="one decision to all"):
        evaluate(PerWorker((0.1,)), context(0).as_server())
    assert float(evaluate(Step(1.0, (3,), (4.0,)), context(0, 3).as_server())) == 0.25


def test_constants_do_not_remember_where_they_were_first_made() -> None:
    with torch.device("meta"), torch.inference_mode():
        first = evaluate(0.12345, Context(0, 0, torch.zeros(1, device="cpu"), 98765))
    again = evaluate(0.12345, Context(0, 0, torch.zeros(1), 98765))
    for value in (first, again):
        assert value.is_cpu and float(value) == 0.12345
    assert not again.is_inference() and not senders_of(Context(0, 0, torch.zeros(1), 98765)).is_inference()
