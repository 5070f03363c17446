"""Train a model over workers with any algorithm, and leave behind records, a recipe and a checkpoint."""

from typing import TYPE_CHECKING

from gradvote.discovery import on_first_use
from gradvote.train.config import Config
from gradvote.train.folder import RunFolder

if TYPE_CHECKING:
    from gradvote.train.baseline import honest
    from gradvote.train.metrics import misfit
    from gradvote.train.observe import Record
    from gradvote.train.run import Progress, Run, silent
    from gradvote.train.running import continued, ready, reopen, start, train
    from gradvote.train.setup import prepare

if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(
        globals(),
        {
            "honest": "gradvote.train.baseline",
            "misfit": "gradvote.train.metrics",
            "Record": "gradvote.train.observe",
            **dict.fromkeys(("Progress", "Run", "silent"), "gradvote.train.run"),
            **dict.fromkeys(("continued", "ready", "reopen", "start", "train"), "gradvote.train.running"),
            "prepare": "gradvote.train.setup",
        },
    )

__all__ = [
    "Config",
    "Progress",
    "Record",
    "Run",
    "RunFolder",
    "continued",
    "honest",
    "misfit",
    "prepare",
    "ready",
    "reopen",
    "silent",
    "start",
    "train",
]
