"""What trains, measures and shows, around the library: `gradvote.lab.train` and the command `gradvote`.

The lab may import everything; the library never imports the lab, so that a program that only votes loads none of it.
`data` and `models` are what is trained, `train` trains it over simulated or real workers, `report` shows what came of
it, `experiments` repeats what papers claim, `bench` measures this machine, `plan` predicts what a vote would save on
yours, and `cli` is the command line over them all.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers the same names, imported outright; nothing else passes for right
    from gradvote.lab import bench as bench
    from gradvote.lab import cli as cli
    from gradvote.lab import data as data
    from gradvote.lab import experiments as experiments
    from gradvote.lab import models as models
    from gradvote.lab import plan as plan
    from gradvote.lab import report as report
    from gradvote.lab import train as train

__all__ = ["bench", "cli", "data", "experiments", "models", "plan", "report", "train"]

if not TYPE_CHECKING:  # a type checker would take any name for right

    def __getattr__(name: str) -> object:
        """What is listed, loaded when it is first used."""
        if name not in __all__:
            raise AttributeError(f"gradvote.lab has no '{name}'. It has: {', '.join(__all__)}.")
        return importlib.import_module(f"gradvote.lab.{name}")


def __dir__() -> list[str]:
    return list(__all__)
