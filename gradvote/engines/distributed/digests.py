"""Replicated servers compare what they got, so that nobody tells different ranks different things unnoticed."""

import torch
from torch import Tensor

from gradvote.engines.common.digests import SHORT_DIGEST_BYTES, short_digest_of
from gradvote.engines.common.errors import Equivocation
from gradvote.engines.distributed.transport import Mail
from gradvote.staging import to_host


def mail(received: list[Tensor]) -> Mail:
    """The digests of the messages received (one from each rank), for everyone."""
    num_ranks = len(received)
    own = torch.cat([_digest(message) for message in to_host(received)])
    return Mail([[own]] * num_ranks, [num_ranks * SHORT_DIGEST_BYTES] * num_ranks)


def compare(received: list[Tensor]) -> None:
    """Raise Equivocation unless all ranks saw the same messages."""
    seen = torch.stack(to_host(received)).unflatten(-1, (len(received), SHORT_DIGEST_BYTES))
    differing = (seen != seen[:1]).any(-1).any(0).nonzero()[:, 0].tolist()
    if differing:
        ranks = ", ".join(map(str, differing))
        raise Equivocation(
            f"The ranks did not all receive the same ballots from rank {ranks}: it sent different ones, or one of the "
            "ranks says so falsely. Nothing was applied. Look at that rank's machine before starting again."
        )


def _digest(message: Tensor) -> Tensor:
    return torch.frombuffer(bytearray(short_digest_of(message.numpy().data)), dtype=torch.uint8)
