"""Votes under torchft's manager and lighthouse: its quorum and healing, our ballots in place of its all-reduce."""

from gradvote.engines.common.errors import Equivocation, ParametersDiffer
from gradvote.engines.torchft.counts import ReplicaCounts, TorchftStats
from gradvote.engines.torchft.greetings import Diverged
from gradvote.engines.torchft.vote import TorchftVote, attach

__all__ = ["Diverged", "Equivocation", "ParametersDiffer", "ReplicaCounts", "TorchftStats", "TorchftVote", "attach"]
