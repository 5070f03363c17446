"""Votes behind DistributedDataParallel: `gradvote.ddp.attach`."""

from gradvote.engines.ddp import Vote, attach
from gradvote.engines.statistics import OWN_BUFFERS, average_statistics

__all__ = ["OWN_BUFFERS", "Vote", "attach", "average_statistics"]
