"""All-to-all over the process group of torchft's manager.

Everyone has a connection of its own to everyone: a death is seen by all at once, not by the neighbours in a ring only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributed import distributed_c10d

from gradvote.engines.distributed.failures import LinkBroken
from gradvote.staging import CPU

if TYPE_CHECKING:
    from torchft.manager import Manager


class AllToAll:
    """One message to all, and one from each; counts the bytes that travel."""

    def __init__(self, manager: "Manager") -> None:
        from torchft.process_group import ManagedProcessGroup  # noqa: PLC0415  # an extra, imported only when used

        self._group = ManagedProcessGroup(manager).parent
        if "gloo" not in self._group.getBackendName():
            raise ValueError(
                f"Votes travel from CPU to CPU, but the manager has {self._group.getBackendName()}. Give it torchft's "
                "ProcessGroupGloo; parameters may be on any device."
            )
        self.sent = self.received = 0

    @property
    def num(self) -> int:
        """The replicas of this quorum, those that heal included.

        Raises:
            LinkBroken: they could not be connected.
        """
        try:
            return int(self._group.size())
        except AssertionError as error:
            raise LinkBroken(f"torchft has no connections for this quorum: {error}") from error

    def swap(self, message: bytes, expected: Sequence[int]) -> list[bytes]:
        """Everyone's message, by rank; `expected` are their lengths.

        Raises:
            LinkBroken: a replica is gone, or did not answer in time.
        """
        send, receive = _tensor(message * len(expected)), torch.empty(sum(expected), dtype=torch.uint8, device=CPU)
        try:
            options = distributed_c10d.AllToAllOptions()
            sizes = [len(message)] * len(expected)
            self._group.alltoall_base(receive, send, list(expected), sizes, options).wait()
        except Exception as error:  # gloo, torchft and its wrappers each have their own
            raise LinkBroken(f"{type(error).__name__}: {error}") from error
        self.sent += len(message) * (len(expected) - 1)
        self.received += sum(expected) - len(message)
        return [part.numpy().tobytes() for part in receive.split(list(expected))]

    def cut(self) -> None:
        """Close the connections, so that nobody waits for this replica; the next quorum makes new ones."""
        self._group.abort()


def _tensor(raw: bytes) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8, device=CPU)
