"""Votes in a script of torchft's: `gradvote.torchft.attach` beside torchft's own `Manager` and lighthouse."""

from typing import TYPE_CHECKING

from gradvote.engines.torchft import (
    Diverged,
    Equivocation,
    ParametersDiffer,
    ReplicaCounts,
    TorchftStats,
    TorchftVote,
    attach,
)
from gradvote.moved import old_names

__all__ = ["Diverged", "Equivocation", "ParametersDiffer", "ReplicaCounts", "TorchftStats", "TorchftVote", "attach"]

if TYPE_CHECKING:  # for one release type checkers know the old names, too
    Vote, Stats, Standing = TorchftVote, TorchftStats, ReplicaCounts
else:
    __getattr__ = old_names(__name__, {"Vote": TorchftVote, "Stats": TorchftStats, "Standing": ReplicaCounts})
