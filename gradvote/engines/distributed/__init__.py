"""Real workers over torch.distributed: every rank is a worker, and the server stands where the placement says."""

from gradvote.engines.common.errors import Equivocation
from gradvote.engines.common.placement import PLACEMENTS, Placement
from gradvote.engines.distributed.exchange import Exchange
from gradvote.engines.distributed.failures import ExchangeError
from gradvote.engines.distributed.resize import resize
from gradvote.engines.distributed.stats import ExchangeStats

__all__ = ["PLACEMENTS", "Equivocation", "Exchange", "ExchangeError", "ExchangeStats", "Placement", "resize"]
