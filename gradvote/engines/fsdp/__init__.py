"""Sharded replicas: FSDP2 within each, votes between them.

A map. `attach` checks what it is given and builds the rest; `local` is what a rank holds of the model, as plain
tensors; `groups` looks whether the groups within replicas and across fit. `vote` is the round behind a backward pass,
with the rounds of `distributed` over the ranks that have the same shard; `rounds` has those of local steps, from the
`start` that shards have of it. `replica` is what the shards of one replica must say alike, `privacy` their one account;
`checkpoint` has memories for torch.distributed.checkpoint.
"""

from gradvote.engines.fsdp.attach import attach
from gradvote.engines.fsdp.vote import FSDPVote

__all__ = ["FSDPVote", "attach"]
