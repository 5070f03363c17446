"""Messages between all ranks of a group, in one collective call that gloo, NCCL and MPI have: all-to-all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from gradvote.engines.distributed.failures import LinkBroken
from gradvote.engines.distributed.mail import Mail

ALIGNMENT = 8


class Transport:
    """All-to-all over a process group, with byte counts of what travels to and from other ranks.

    Collectives of a group run in the order they were started, so all ranks must start theirs in the same order.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank, self.num_ranks = dist.get_rank(group), dist.get_world_size(group)
        self.device = torch.device("cuda", torch.cuda.current_device()) if _is_nccl(group) else torch.device("cpu")

    def start(self, mail: Mail) -> "Delivery":
        """Send the messages off; `wait` gives those of the others."""
        sizes, expected = [_whole(sum(map(len, m))) for m in mail.messages], [_whole(n) for n in mail.expected]
        pieces = [piece for message in mail.messages for piece in _filled(message)]
        send = (torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.uint8)).to(self.device)
        receive = torch.empty(sum(expected), dtype=torch.uint8, device=self.device)
        with _links():
            work = dist.all_to_all_single(receive, send, expected, sizes, group=self.group, async_op=True)
        passed = sum(sizes) - sizes[self.rank], sum(expected) - expected[self.rank]
        return Delivery(work, send, receive, mail.expected, *passed)

    def gather(self, row: Tensor) -> Tensor:
        """Everyone's row (k,) as (M, k)."""
        rows = [torch.empty_like(row, device=self.device) for _ in range(self.num_ranks)]
        with _links():
            dist.all_gather(rows, row.to(self.device), group=self.group)
        return torch.stack(rows).cpu()

    def most(self, own: bool) -> bool:
        """Whether most ranks say so."""
        said = self.gather(torch.tensor([int(own)]))
        return 2 * int(said.sum()) > len(said)


@dataclass(frozen=True)
class Delivery:
    """Messages on their way; the buffers live until they have arrived."""

    work: dist.Work
    send: Tensor
    receive: Tensor
    sizes: list[int]
    bytes_sent: int
    bytes_received: int

    def wait(self) -> list[Tensor]:
        """One message from each rank, on the CPU.

        Raises:
            LinkBroken: a rank is gone, or did not answer in time.
        """
        with _links():
            self.work.wait()
        messages = self.receive.cpu().split([_whole(n) for n in self.sizes])
        return [message[:n] for message, n in zip(messages, self.sizes, strict=True)]


def _whole(size: int) -> int:
    """Messages begin at multiples of eight bytes, so that words need not be copied to be read."""
    return size + -size % ALIGNMENT


def _filled(message: list[Tensor]) -> list[Tensor]:
    missing = -sum(map(len, message)) % ALIGNMENT
    return [*message, torch.zeros(missing, dtype=torch.uint8)] if missing else message


@contextmanager
def _links() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LinkBroken(str(error)) from error


def _is_nccl(group: dist.ProcessGroup | None) -> bool:
    return dist.get_backend(group) == "nccl"
