"""Votes behind DistributedDataParallel: `gradvote.ddp.attach`."""

from typing import TYPE_CHECKING

from gradvote.engines.common.errors import ParametersDiffer
from gradvote.engines.ddp import DDPVote, attach
from gradvote.engines.distributed.statistics import OWN_BUFFERS, average_statistics
from gradvote.moved import old_names

__all__ = ["OWN_BUFFERS", "DDPVote", "ParametersDiffer", "attach", "average_statistics"]

if TYPE_CHECKING:  # for one release type checkers know the old name, too
    Vote = DDPVote
else:
    __getattr__ = old_names(__name__, {"Vote": DDPVote})
