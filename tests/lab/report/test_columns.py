import math
from collections.abc import Callable

from gradvote.lab.report import Run
from gradvote.lab.report.columns import COLUMNS, status

from .conftest import record

BY_TITLE = {column.title: column for column in COLUMNS}


def test_the_figures_of_a_run(make_run: Callable[..., Run]) -> None:
    run = make_run("one")
    assert {title: column.text(run) for title, column in BY_TITLE.items()} == {
        "Test accuracy": "0.974",
        "Gradient norm": "3.1e-02",
        "Median–mean gap": "2.0e-01",
        "Bits up": "1.02",
        "Bits down": "1.02",
        "Total sent": "600.0 kB",
        "Time": "50.0 s",
        "Abstentions": "0",
    }
    assert status(run) == "finished"


def test_the_best_are_finished_finite_and_tied_as_shown(make_run: Callable[..., Run]) -> None:
    accuracies = {"a": 0.9740, "b": 0.97404, "c": 0.5, "d": 0.4, "f": math.nan}
    runs = [make_run(name, [record(10, test_accuracy=value)]) for name, value in accuracies.items()]
    runs.append(make_run("e", [record(10, test_accuracy=0.99)], status="interrupted"))
    assert BY_TITLE["Test accuracy"].best_runs(runs) == {0, 1}


def test_the_smallest_norm_is_the_best(make_run: Callable[..., Run]) -> None:
    runs = [make_run(str(norm), [record(10, grad_norm=norm)]) for norm in (0.5, 0.1, 0.3)]
    assert BY_TITLE["Gradient norm"].best_runs(runs) == {1}


def test_nobody_is_best_where_most_are_alike(make_run: Callable[..., Run]) -> None:
    runs = [make_run("a"), make_run("b"), make_run("c", [record(10, bits_up=32.0)])]
    assert not BY_TITLE["Bits up"].best_runs(runs)
    runs = runs[:2]
    assert all(not column.best_runs(runs) for column in COLUMNS)
