"""Messages between ranks: the same whichever way they go, and receives before sends where they go pair by pair."""

from typing import Any

import pytest
import torch
import torch.distributed as dist

from gradvote.engines.distributed import transport
from gradvote.engines.distributed.transport import Mail, Transport
from gradvote.engines.launch import spawn

SIZES = (0, 1, 7, 8, 65, 16385)


def _swapped(paired: int) -> list[list[list[int]]]:
    """What each of several mails brings, some of whose messages are empty; the last ones wait in another order."""
    transport.PAIRED = paired
    own = Transport(None)
    rank, num = own.rank, own.num_ranks

    def message(of: int, to: int, mail: int) -> torch.Tensor:
        size = SIZES[(of + 2 * to + mail) % len(SIZES)]
        return (torch.arange(size) * (of + 1) + 31 * to + mail).to(torch.uint8)

    mails = [
        Mail([[message(rank, j, mail)] for j in range(num)], [len(message(i, rank, mail)) for i in range(num)])
        for mail in range(len(SIZES))
    ]
    delivered = own.start(mails)
    assert own._by_pairs == (num <= paired)
    found = {k: delivered[k].wait() for k in reversed(range(len(mails)))}
    for mail in range(len(mails)):
        for i, got in enumerate(found[mail]):
            assert torch.equal(got, message(i, rank, mail)), (mail, i, rank)
    return [[own.traffic] for own in delivered]  # type: ignore[list-item]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_both_ways_bring_the_same(ranks: int) -> None:
    assert spawn(_swapped, ranks, 4) == spawn(_swapped, ranks, 0)


def _order(_: None) -> list[str]:
    calls: list[str] = []

    def noted(name: str) -> Any:
        whole = getattr(dist, name)
        return lambda *args, **options: (calls.append(name), whole(*args, **options))[1]

    for name in ("isend", "irecv"):
        setattr(dist, name, noted(name))
    own = Transport(None)
    sent = [torch.ones(64, dtype=torch.uint8) for _ in range(own.num_ranks)]
    for delivered in own.start([Mail([[message] for message in sent], [64] * own.num_ranks)]):
        delivered.wait()
    return calls


def test_all_receives_are_posted_before_any_send() -> None:
    """A note that bytes are wanted would wait behind those of a send, and two ranks would take turns."""
    for calls in spawn(_order, 3, None):
        assert calls == ["irecv", "irecv", "isend", "isend"]
