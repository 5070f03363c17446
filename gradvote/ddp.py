"""Votes behind DistributedDataParallel: `gradvote.ddp.attach`."""

from gradvote.engines.ddp import Vote, attach
from gradvote.engines.statistics import average_statistics

__all__ = ["Vote", "attach", "average_statistics"]
