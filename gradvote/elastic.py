"""Training that goes on while workers die, stall, lie and come back: `gradvote.elastic.attach`."""

from gradvote.engines.elastic import (
    PLACEMENTS,
    ElasticStats,
    ElasticVote,
    Equivocation,
    Excluded,
    RegisterLost,
    Replaced,
    RunEnded,
    ShardLost,
    Timeouts,
    TooFewWorkers,
    WorkerCounts,
    attach,
)

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
