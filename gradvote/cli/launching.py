"""`gradvote launch`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from gradvote.engines.elastic.launcher import Launcher


def register(app: App) -> None:
    """Add the command."""
    app.command(launch, name="launch")


def launch(
    script: Annotated[Path, Parameter(help="The Python script of every worker.")],
    /,
    *arguments: Annotated[str, Parameter(help="Its arguments; put -- before them.", allow_leading_hyphen=True)],
    workers: Annotated[int, Parameter(help="Workers to start.")],
    min_workers: Annotated[
        int | None, Parameter(help="The fewest ballots of a step; more than half by default.")
    ] = None,
    max_restarts: Annotated[int, Parameter(help="How often each worker is started again.")] = 100,
    host: Annotated[str, Parameter(help="Address of this machine that the workers use.")] = "127.0.0.1",
) -> int:
    """Start workers that train with gradvote.elastic, and start those again that die.

    For instance: gradvote launch --workers 7 --min-workers 4 train.py
    """
    if not script.is_file():
        raise ValueError(f"There is no script {script}.")
    quorum = workers // 2 + 1 if min_workers is None else min_workers
    command = [sys.executable, str(script), *arguments]
    return Launcher(command, workers, quorum, max_restarts=max_restarts, host=host).run()
