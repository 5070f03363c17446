"""Real workers: `gradvote.distributed.Exchange` over torch.distributed; `spawn` starts them on this machine."""

from typing import TYPE_CHECKING

from gradvote.engines.distributed import (
    PLACEMENTS,
    Equivocation,
    Exchange,
    ExchangeError,
    ExchangeStats,
    ParametersDiffer,
    Placement,
    resize,
)
from gradvote.engines.distributed.statistics import average_statistics
from gradvote.engines.launch import spawn
from gradvote.moved import old_names

__all__ = [
    "PLACEMENTS",
    "Equivocation",
    "Exchange",
    "ExchangeError",
    "ExchangeStats",
    "ParametersDiffer",
    "Placement",
    "average_statistics",
    "resize",
    "spawn",
]

if TYPE_CHECKING:  # for one release type checkers know the old name, too
    Stats = ExchangeStats
else:
    __getattr__ = old_names(__name__, {"Stats": ExchangeStats})
