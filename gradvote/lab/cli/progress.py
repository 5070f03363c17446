"""How far `gradvote reproduce` is: bars on a terminal, a line every few seconds anywhere else."""

import time
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from gradvote.lab.experiments.pace import Board, lasting, said

PAUSE = 10.0
"""Seconds between two lines."""


class Shown:
    """A context manager; `show` may be called at any rate. What is printed meanwhile stands above the bars."""

    def __init__(self, console: Console, pause: float = PAUSE) -> None:
        columns = (SpinnerColumn(), BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._console, self._pause, self._told = console, pause, float("-inf")
        self._bars = Progress(*columns, console=console) if console.is_terminal else None
        self._all = TaskID(0) if self._bars is None else self._bars.add_task("", total=1.0)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, board: Board) -> None:
        """Show where the measurements are."""
        if self._bars is not None:
            self._draw(self._bars, board)
        elif time.monotonic() >= self._told + self._pause:
            self._told = time.monotonic()
            self._console.print(escape(str(board)), soft_wrap=True)

    def _draw(self, bars: Progress, board: Board) -> None:
        left = board.left()
        ahead = f", about {lasting(left)} left" if left else ""
        bars.update(self._all, completed=board.share, description=f"{board.done} of {board.total} cells{ahead}")
        running = {key: piece for key, piece in board.pieces.items() if piece.running}
        for key in self._tasks.keys() - running.keys():
            bars.remove_task(self._tasks.pop(key))
        for key, piece in running.items():
            if key not in self._tasks:
                self._tasks[key] = bars.add_task("", total=1.0)
            bars.update(self._tasks[key], completed=piece.share, description=escape(said(piece)))
