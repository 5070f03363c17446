"""Real workers: `gradvote.distributed.Exchange` over torch.distributed."""

from gradvote.engines.distributed import PLACEMENTS, Equivocation, Exchange, ExchangeError, Placement, Stats, resize
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
]
