"""Training that goes on while workers die, stall, lie and come back: `gradvote.elastic.attach`."""

from typing import TYPE_CHECKING

from gradvote.engines.elastic import (
    PLACEMENTS,
    ElasticStats,
    ElasticVote,
    Equivocation,
    Excluded,
    ParametersDiffer,
    RegisterLost,
    Replaced,
    RunEnded,
    ShardLost,
    Timeouts,
    TooFewWorkers,
    WorkerCounts,
    attach,
)
from gradvote.moved import old_names

__all__ = [
    "PLACEMENTS",
    "ElasticStats",
    "ElasticVote",
    "Equivocation",
    "Excluded",
    "ParametersDiffer",
    "RegisterLost",
    "Replaced",
    "RunEnded",
    "ShardLost",
    "Timeouts",
    "TooFewWorkers",
    "WorkerCounts",
    "attach",
]

if TYPE_CHECKING:  # for one release type checkers know the old names, too
    Vote, Stats, Standing = ElasticVote, ElasticStats, WorkerCounts
else:
    __getattr__ = old_names(__name__, {"Vote": ElasticVote, "Stats": ElasticStats, "Standing": WorkerCounts})
