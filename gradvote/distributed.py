"""Real workers: `gradvote.distributed.Exchange` over torch.distributed."""

from gradvote.engines.distributed import PLACEMENTS, Equivocation, Exchange, ExchangeError, Placement, Stats, resize

__all__ = ["PLACEMENTS", "Equivocation", "Exchange", "ExchangeError", "Placement", "Stats", "resize"]
