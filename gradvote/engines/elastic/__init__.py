"""Workers that die, stall, lie and come back: votes over connections of their own, agreed on, then applied."""

from gradvote.engines.distributed.digests import Equivocation
from gradvote.engines.elastic.attach import attach
from gradvote.engines.elastic.checks import PLACEMENTS
from gradvote.engines.elastic.register import RegisterLost
from gradvote.engines.elastic.tallies import Standing, Stats
from gradvote.engines.elastic.timeouts import Excluded, Replaced, RunEnded, ShardLost, Timeouts, TooFewWorkers
from gradvote.engines.elastic.vote import Vote

__all__ = [
    "PLACEMENTS",
    "Equivocation",
    "Excluded",
    "RegisterLost",
    "Replaced",
    "RunEnded",
    "ShardLost",
    "Standing",
    "Stats",
    "Timeouts",
    "TooFewWorkers",
    "Vote",
    "attach",
]
