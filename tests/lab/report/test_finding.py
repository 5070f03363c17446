from collections.abc import Callable

from gradvote.lab.report import Run
from gradvote.lab.report.finding import finding

from .conftest import record


def _run(make_run: Callable[..., Run], name: str, accuracy: float, num_bytes: int, **changes: object) -> Run:
    return make_run(name, [record(10, test_accuracy=accuracy, bytes_up=num_bytes, bytes_down=0)], **changes)


def test_the_best_the_cheap_the_far_and_the_lost(make_run: Callable[..., Run], diverged: Run) -> None:
    runs = [
        _run(make_run, "sgd", 0.975, 32_000),
        _run(make_run, "noisy", 0.94, 1_000),
        _run(make_run, "sign", 0.72, 1_000),
        diverged,
    ]
    assert finding(runs) == (
        "sgd reaches 0.975 test accuracy. noisy comes to 0.940 with 32× fewer bytes. "
        "sign (0.720) stays far behind. lost diverged at step 30."
    )


def test_nothing_is_claimed_without_measurements(make_run: Callable[..., Run]) -> None:
    assert finding([make_run("empty", []), make_run("blind", [{"step": 1, "loss": 2.0}])]) == ""


def test_an_interrupted_run_is_not_ranked(make_run: Callable[..., Run]) -> None:
    runs = [_run(make_run, "a", 0.5, 10), _run(make_run, "b", 0.9, 10, status="interrupted")]
    assert finding(runs) == "a reaches 0.500 test accuracy. b interrupted at step 10."
