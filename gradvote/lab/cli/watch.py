"""A run's progress on the terminal."""

from math import nan
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeRemainingColumn

from gradvote.lab.files import number

if TYPE_CHECKING:
    from gradvote.lab.train import Progress as Callback
    from gradvote.lab.train import Run


def columns() -> tuple[ProgressColumn, ...]:
    """What a progress bar shows: steps, rate, time left and the last figures."""
    return (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps  {task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}"),
    )


def news_of(record: dict[str, Any]) -> str:
    """The figures of a record worth a glance."""
    loss, accuracy = (nan if (value := number(record.get(key))) is None else value for key in ("loss", "test_accuracy"))
    return f"loss {loss:.3g}, test {accuracy:.3f}"


def watch(run: "Run", console: Console, *callbacks: "Callback") -> "Run":
    """Train with a progress bar; `callbacks` see every step too."""
    with Progress(*columns(), console=console) as bar:
        task = bar.add_task(run.label, total=run.config.steps, completed=run.step, news="", rate="")

        def progress(step: int, record: dict[str, Any] | None) -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=step, rate=f"{speed:.0f}/s" if speed else "")
            if record is not None:
                bar.update(task, news=news_of(record))
            for callback in callbacks:
                callback(step, record)

        run.train(progress)
    return run
