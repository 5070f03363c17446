import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from gradvote.errors import MissingExtra
from gradvote.lab.report import Run
from gradvote.lab.report.columns import COLUMNS
from gradvote.lab.report.console import table


def _printed(runs: list[Run]) -> str:
    console = Console(width=160, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        console.print(table(runs))
    return capture.get()


def test_the_columns_and_numbers_of_the_report(make_run: Callable[..., Run], diverged: Run) -> None:
    text = _printed([make_run("sgd"), diverged])
    for words in ("sgd", "0.974", "3.1e-02", "600.0 kB", "50.0 s", "diverged at step 30", "NaN"):
        assert words in text
    titles = [str(column.header) for column in table([diverged]).columns]
    assert titles == ["Algorithm", *(column.short for column in COLUMNS), "Status"]


def test_markup_in_a_label_is_only_text(make_run: Callable[..., Run]) -> None:
    assert "[red]sgd[/red]" in _printed([make_run("a", label="[red]sgd[/red]")])


def test_no_runs_no_rows() -> None:
    assert table([]).row_count == 0


def test_without_rich_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.table", None)
    monkeypatch.delitem(sys.modules, "gradvote.lab.report.console")
    with pytest.raises(MissingExtra, match=r"gradvote\[cli\]"):
        import gradvote.lab.report.console  # noqa: F401


def test_eighty_characters_are_enough(make_run: Callable[..., Run], diverged: Run) -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table([make_run("noisy-mediansgd"), diverged]))
    text = capture.get()
    assert "…" not in text
    for word in ("noisy-mediansgd", "3.1e-02", "600.0 kB", "finished", "diverged", "at step", "30"):
        assert word in text
