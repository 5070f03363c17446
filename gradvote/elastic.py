"""Training that goes on while workers die, stall, lie and come back: `gradvote.elastic.attach`."""

from gradvote.engines.elastic import (
    PLACEMENTS,
    Equivocation,
    Excluded,
    RegisterLost,
    Replaced,
    RunEnded,
    ShardLost,
    Standing,
    Stats,
    Timeouts,
    TooFewWorkers,
    Vote,
    attach,
)

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
