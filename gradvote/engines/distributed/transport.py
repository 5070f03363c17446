"""Messages between all ranks of a group, in one collective call that gloo, NCCL and MPI have: all-to-all."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from gradvote.engines.distributed.failures import LinkBroken
from gradvote.engines.distributed.mail import Mail


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
        pieces = [piece for message in mail.messages for piece in message]
        send = (torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.uint8)).to(self.device)
        receive = torch.empty(sum(mail.expected), dtype=torch.uint8, device=self.device)
        sizes = [sum(map(len, message)) for message in mail.messages]
        with _links():
            work = dist.all_to_all_single(receive, send, mail.expected, sizes, group=self.group, async_op=True)
        others = [r for r in range(self.num_ranks) if r != self.rank]
        return Delivery(
            work, send, receive, mail.expected, sum(sizes[r] for r in others), sum(mail.expected[r] for r in others)
        )

    def gather(self, row: Tensor) -> Tensor:
        """Everyone's row (k,) as (M, k)."""
        rows = [torch.empty_like(row, device=self.device) for _ in range(self.num_ranks)]
        with _links():
            dist.all_gather(rows, row.to(self.device), group=self.group)
        return torch.stack(rows).cpu()


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
        return list(self.receive.cpu().split(self.sizes))


@contextmanager
def _links() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LinkBroken(str(error)) from error


def _is_nccl(group: dist.ProcessGroup | None) -> bool:
    return dist.get_backend(group) == "nccl"
