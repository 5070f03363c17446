"""Real workers: `gradvote.distributed.Exchange` over torch.distributed; `spawn` starts them on this machine."""

from gradvote.engines.distributed import PLACEMENTS, Equivocation, Exchange, ExchangeError, Placement, Stats, resize
from gradvote.engines.launch import spawn
from gradvote.engines.statistics import average_statistics

__all__ = [
    "PLACEMENTS",
    "Equivocation",
    "Exchange",
    "ExchangeError",
    "Placement",
    "Stats",
    "average_statistics",
    "resize",
    "spawn",
]
