"""Real workers over torch.distributed: every rank is a worker, and the server stands where the placement says.

A map. One step of one rank, in order, with the file of each part:

1. `exchange`: the user's `step()`. The gradients go into `common.flat_buffer`, cut into the chunks of `chunking`;
   behind DDP `hook_thread` does the same with its buckets, which `bucket_views` puts into the order of the model, and
   whose parameters `wrapped` finds among those that are voted on.
2. `session`: this rank has a `seat` for each `common.part`, with states cut into `slices` and kept by the row in
   `states`; it opens a `part_round` for each.
3. `pipeline`: ballots up, decisions down, over the `transport`, part by part, while others are encoded or read.
   A `part_round` votes, decides for its shard, hears and reads; a `transport.Mail` is what it has to send. Replicated
   servers compare `digests`.
4. What was decided is made the gradients, and `stats` counts.

Before the first step `alike` finds ranks that were given different things, and builds on all ranks or on none.
`failures` tells all ranks why one failed, `resize` makes checkpoints of another number of ranks, `statistics` averages
those of normalisation layers. `comparison` looks from time to time whether the ranks still hold the same parameters.
`dropped_groups` are those of exchanges that nobody has any more.
"""

from gradvote.engines.common.errors import Equivocation, ParametersDiffer
from gradvote.engines.common.placement import PLACEMENTS, Placement
from gradvote.engines.distributed.exchange import Exchange
from gradvote.engines.distributed.failures import ExchangeError
from gradvote.engines.distributed.resize import resize
from gradvote.engines.distributed.stats import ExchangeStats

__all__ = [
    "PLACEMENTS",
    "Equivocation",
    "Exchange",
    "ExchangeError",
    "ExchangeStats",
    "ParametersDiffer",
    "Placement",
    "resize",
]
