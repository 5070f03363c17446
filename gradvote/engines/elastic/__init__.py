"""Workers that die, stall, lie and come back: votes over connections of their own, agreed on, then applied."""

from gradvote.engines.distributed.digests import Equivocation
from gradvote.engines.elastic.attach import attach
from gradvote.engines.elastic.consensus.register import RegisterLost
from gradvote.engines.elastic.counts import ElasticStats, WorkerCounts
from gradvote.engines.elastic.servers.placement import PLACEMENTS
from gradvote.engines.elastic.timeouts import Excluded, Replaced, RunEnded, ShardLost, Timeouts, TooFewWorkers
from gradvote.engines.elastic.vote import ElasticVote

__all__ = [
    "PLACEMENTS",
    "ElasticStats",
    "ElasticVote",
    "Equivocation",
    "Excluded",
    "RegisterLost",
    "Replaced",
    "RunEnded",
    "ShardLost",
    "Timeouts",
    "TooFewWorkers",
    "WorkerCounts",
    "attach",
]
