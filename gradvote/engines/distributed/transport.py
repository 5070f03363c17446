"""Messages between all ranks of a group: all-to-all, in one collective call, and over gloo pair by pair."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gradvote import wire
from gradvote.engines.common.errors import LinkBroken
from gradvote.staging import CPU, Leaving, new_bytes, to_device, to_host

ALIGNMENT = 8
TAG = 0x6776
"""Of messages between two ranks: what a script sends by itself has other tags, 0 by default."""
PAIRED = 4
"""Ranks up to which messages go pair by pair; among more, each sends to one rank and receives from another anyway."""
DEFAULT = dist.constants.default_pg_timeout.total_seconds()
SERVER_HALF = "GRADVOTE_SERVER_HALF"
"""The environment variable that, as "card", has votes counted on the card also where ballots arrive on the host."""


Room = Callable[[str, int], Tensor]
"""Memory (size,) uint8 on the host to "send" from, or to "receive" in."""


@dataclass(frozen=True)
class Mail:
    """A message for each rank, in pieces (bytes,) or (rows, bytes) uint8, and the number of bytes that comes from each.

    Rows of a piece stand behind each other in the message.
    """

    messages: list[list[Tensor]]
    expected: list[int]


@dataclass(frozen=True)
class Parcel:
    """Messages on their way to where they can be sent from; `sizes` are their lengths."""

    leaving: Leaving
    sizes: list[int]
    expected: list[int]


class Transport:
    """All-to-all over a process group, with byte counts of what travels to and from other ranks.

    Bytes travel from `device`: the card with NCCL, else the host. `home` is where the gradients are. Collectives of a
    group run in the order they were started, so all ranks must start theirs in the same order.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank, self.num_ranks = dist.get_rank(group), dist.get_world_size(group)
        self.device = torch.device("cuda", torch.cuda.current_device()) if _is_nccl(group) else CPU
        self.home = CPU
        gloo = self.device == CPU and "cpu:gloo" in dist.get_backend_config(group)
        self._by_pairs = gloo and self.num_ranks <= PAIRED

    def settle(self, home: torch.device) -> None:
        """The gradients are there: a group that sends from a card sends from that one."""
        self.home = home
        if self.device.type == home.type:
            self.device = home

    @property
    def timeout(self) -> float:
        """How long a collective waits, in seconds; torch's default where a group does not say, in no public way."""
        group: Any = self.group
        try:
            found: timedelta = group._get_backend(self.device).options._timeout
            return found.total_seconds()
        except (AttributeError, RuntimeError):
            return DEFAULT

    @property
    def server(self) -> torch.device:
        """Where votes are counted: where the ballots arrive, if gradients could be there, too."""
        if self.device.type == self.home.type or os.environ.get(SERVER_HALF) == "card":
            return self.home
        return CPU

    def start(self, mails: Iterable[Mail], room: Room | None = None) -> list["Delivered"]:
        """Send messages off, one mail after another; `wait` gives those of the others.

        `room` gives memory for what one mail sends and receives. What a card is still at work on is not waited for
        before the next mail is asked for.
        """
        packed, started = deque[Parcel](), list[Delivered]()
        for mail in mails:
            packed.append(self.pack(mail, room))
            while packed and packed[0].leaving.ready:
                started.append(self._send(packed.popleft(), room))
        return [*started, *(self._send(parcel, room) for parcel in packed)]

    def pack(self, mail: Mail, room: Room | None = None) -> Parcel:
        """A mail's messages behind each other, on their way to where the group sends from."""
        sizes = [_whole(_length(m)) for m in mail.messages]
        pieces = [piece for message in mail.messages for piece in _filled(message)]
        if room is not None:
            whole = room("send", sum(sizes))
            _write(pieces, whole)
        elif pieces:
            whole = wire.joined(pieces)
        else:
            whole = torch.empty(0, dtype=torch.uint8, device=self.device)
        return Parcel(Leaving([whole], self.device), sizes, mail.expected)

    def _send(self, parcel: Parcel, room: Room | None = None) -> "Delivered":
        (send,), sizes, expected = parcel.leaving.arrived(), parcel.sizes, [_whole(n) for n in parcel.expected]
        size = sum(expected)
        receive = new_bytes(size, self.device, self.home) if room is None else room("receive", size)
        with _links():
            if self._by_pairs:
                works = self._swap_by_pairs(receive.split(expected), send.split(sizes))
            else:
                works = [dist.all_to_all_single(receive, send, expected, sizes, group=self.group, async_op=True)]
        passed = sum(sizes) - sizes[self.rank], sum(expected) - expected[self.rank]
        return Delivered(works, send, receive, parcel.expected, *passed)

    def _swap_by_pairs(self, receive: Sequence[Tensor], send: Sequence[Tensor]) -> list[dist.Work | None]:
        """All receives first: gloo tells a sender that its bytes are wanted, and that note would wait behind own bytes.

        Its all-to-all sends first, so that of two ranks now one sends and now the other: twice the time of the link.
        """
        receive[self.rank].copy_(send[self.rank])
        ahead = [(self.rank + k) % self.num_ranks for k in range(1, self.num_ranks)]
        of, to = [j for j in reversed(ahead) if len(receive[j])], [j for j in ahead if len(send[j])]
        works = [dist.irecv(receive[j], group=self.group, group_src=j, tag=TAG) for j in of]
        return works + [dist.isend(send[j], group=self.group, group_dst=j, tag=TAG) for j in to]

    def gather(self, row: Tensor) -> Tensor:
        """Everyone's row (k,) as (M, k), on the host."""
        own = to_device(row, self.device)
        rows = [torch.empty_like(own) for _ in range(self.num_ranks)]
        with _links():
            dist.all_gather(rows, own, group=self.group)
        return to_host([torch.stack(rows)])[0]

    def any(self, own: bool) -> bool:
        """Whether some rank says so."""
        return bool(self.gather(torch.tensor([int(own)], device=CPU)).any())

    def most(self, own: bool) -> bool:
        """Whether most ranks say so."""
        said = self.gather(torch.tensor([int(own)], device=CPU))
        return 2 * int(said.sum()) > len(said)


@dataclass
class Delivered:
    """Messages on their way: what is sent lives until it has gone, what arrives as long as somebody has a message."""

    works: list[dist.Work | None] | None
    send: Tensor | None
    receive: Tensor | None
    sizes: list[int]
    bytes_sent: int
    bytes_received: int

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received."""
        return self.bytes_sent, self.bytes_received

    def wait(self) -> list[Tensor]:
        """One message from each rank, where the group has brought it: given once, and not kept.

        Raises:
            LinkBroken: a rank is gone, or did not answer in time.
        """
        assert self.works is not None and self.receive is not None, "messages are given once"
        with _links():
            for work in self.works:
                if work is not None:  # this process is in the group
                    work.wait()
        messages = self.receive.split([_whole(n) for n in self.sizes])
        self.works = self.send = self.receive = None
        return [message[:n] for message, n in zip(messages, self.sizes, strict=True)]


def _whole(size: int) -> int:
    """Messages begin at multiples of eight bytes, so that words need not be copied to be read."""
    return size + -size % ALIGNMENT


def _length(message: list[Tensor]) -> int:
    return sum(piece.numel() for piece in message)


def _write(pieces: Sequence[Tensor], whole: Tensor) -> None:
    at = 0
    for piece in pieces:
        whole[at : at + piece.numel()].view(piece.shape).copy_(piece)
        at += piece.numel()


def _filled(message: list[Tensor]) -> list[Tensor]:
    missing = -_length(message) % ALIGNMENT
    return [*message, message[0].new_zeros(missing)] if missing else message


@contextmanager
def _links() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LinkBroken(str(error)) from error


def _is_nccl(group: dist.ProcessGroup | None) -> bool:
    return dist.get_backend(group) == "nccl"
