"""Train a model over workers with any algorithm, and leave behind records, a recipe and a checkpoint.

A map, in the order of a run. `config` is its options; `setup` makes objects of them, every check before any work, and
`running` begins or continues. The loop is `run` (simulated workers), `local` (with steps of their own between rounds),
`ranks` (behind DDP) or `elastic` (workers that may die); `own_steps` are those of one real worker. `observe` and
`observe_ranks` look at it without disturbing it: `metrics`, and `baseline`, by which robustness is judged. `folder`
owns the files, `checkpoint` writes and reads states, `tensorboard` event files, `machine` says what a run ran on.
`lean` has PyTorch's optimizers without a slow import, `schedules/` one file per schedule of the rate.
"""

from typing import TYPE_CHECKING

from gradvote.discovery import on_first_use
from gradvote.lab.train.config import Config
from gradvote.lab.train.folder import RunFolder

if TYPE_CHECKING:
    from gradvote.lab.train.baseline import honest
    from gradvote.lab.train.metrics import misfit
    from gradvote.lab.train.observe import Record
    from gradvote.lab.train.run import Progress, Run, silent
    from gradvote.lab.train.running import continued, ready, reopen, start, train
    from gradvote.lab.train.setup import prepare

if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(
        globals(),
        {
            "honest": "gradvote.lab.train.baseline",
            "misfit": "gradvote.lab.train.metrics",
            "Record": "gradvote.lab.train.observe",
            **dict.fromkeys(("Progress", "Run", "silent"), "gradvote.lab.train.run"),
            **dict.fromkeys(("continued", "ready", "reopen", "start", "train"), "gradvote.lab.train.running"),
            "prepare": "gradvote.lab.train.setup",
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
