"""Votes between the replicas of a model that FSDP2 shards: `gradvote.fsdp.attach`."""

from gradvote.engines.distributed.statistics import average_statistics
from gradvote.engines.fsdp import FSDPVote, attach

__all__ = ["FSDPVote", "attach", "average_statistics"]
