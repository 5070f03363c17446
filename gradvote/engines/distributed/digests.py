"""Replicated servers compare what they got, so that nobody tells different ranks different things unnoticed."""

import hashlib

import torch
from torch import Tensor

from gradvote.engines.distributed.mail import Mail
from gradvote.staging import to_host

DIGEST_BYTES = 16


class Equivocation(RuntimeError):
    """A rank's ballots are not the same for all ranks: the run must stop, as its copies would drift apart."""


def mail(received: list[Tensor]) -> Mail:
    """The digests of the messages received (one from each rank), for everyone."""
    num_ranks = len(received)
    own = torch.cat([_digest(message) for message in to_host(received)])
    return Mail([[own]] * num_ranks, [num_ranks * DIGEST_BYTES] * num_ranks)


def compare(received: list[Tensor]) -> None:
    """Raise Equivocation unless all ranks saw the same messages."""
    seen = torch.stack(to_host(received)).unflatten(-1, (len(received), DIGEST_BYTES))
    differing = (seen != seen[:1]).any(-1).any(0).nonzero()[:, 0].tolist()
    if differing:
        ranks = ", ".join(map(str, differing))
        raise Equivocation(
            f"The ranks did not all receive the same ballots from rank {ranks}: it sent different ones, or one of the "
            "ranks says so falsely. Nothing was applied. Look at that rank's machine before starting again."
        )


def _digest(message: Tensor) -> Tensor:
    digest = hashlib.blake2b(message.numpy().data, digest_size=DIGEST_BYTES).digest()
    return torch.frombuffer(bytearray(digest), dtype=torch.uint8)
