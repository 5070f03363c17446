"""Failures across ranks: who failed, and what to do, told to everyone through the group's store."""

import time
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import distributed_c10d

PATIENCE = 3.0


class ExchangeError(RuntimeError):
    """The ranks could not finish a round together; names the ranks at fault. The group cannot be used any more."""


class LinkBroken(RuntimeError):
    """A collective call failed here: some rank is gone, or did not answer in time."""


class Watch:
    """Tells the others why this rank failed, and learns why they did."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.rank, self.num_ranks = dist.get_rank(group), dist.get_world_size(group)
        self.ranks = dist.get_process_group_ranks(group)
        self.store = _store_of(group)

    def failed(self, error: Exception, step: int) -> Exception:
        """Tell the others of an error in a step; the error to raise, with the ranks at fault where they are others."""
        if isinstance(error, LinkBroken):
            return self._explained(error, step)
        self._tell(step, f"{type(error).__name__}: {error}")
        return error

    def _explained(self, error: LinkBroken, step: int) -> ExchangeError:
        self._tell(step, "")
        heard = self._listen(step)
        causes = [f"rank {r} failed with {text}" for r, text in heard.items() if text]
        silent = [str(r) for r in range(self.num_ranks) if r not in heard]
        if silent:
            causes.append(f"rank {', '.join(silent)} did not answer: it ended, hangs or cannot be reached")
        cause = "; ".join(causes) or f"the connections broke ({error})"
        return ExchangeError(
            f"Rank {self.rank} could not finish the exchange: {cause}. Look at the log of that rank, mend the cause, "
            "and start all ranks again from the last checkpoint."
        )

    def _tell(self, step: int, text: str) -> None:
        if self.store is not None:
            try:
                self.store.set(f"failed/{step}/{self.rank}", text)
            except (RuntimeError, ValueError):
                self.store = None

    def _listen(self, step: int) -> dict[int, str]:
        heard: dict[int, str] = {self.rank: ""}
        until = time.monotonic() + PATIENCE
        try:
            while self.store is not None and len(heard) < self.num_ranks and time.monotonic() < until:
                for rank in set(range(self.num_ranks)) - set(heard):
                    if self.store.check([f"failed/{step}/{rank}"]):
                        heard[rank] = self.store.get(f"failed/{step}/{rank}").decode()
                time.sleep(0.02)
        except RuntimeError:
            self.store = None
        return heard


def private_group(group: dist.ProcessGroup | None, timeout: float) -> dist.ProcessGroup | None:
    """A new group of all ranks, whose collectives no other code starts; None where `group` has only some of the ranks.

    Torch names groups of some ranks by the number of groups a rank has already, so their ranks may fail to meet.
    """
    if group is not None and dist.get_world_size(group) < dist.get_world_size():
        return None
    wait = timedelta(seconds=timeout)
    new: dist.ProcessGroup = dist.new_group(timeout=wait, backend=dist.get_backend(group))
    return new


def _store_of(group: dist.ProcessGroup) -> distributed_c10d.Store | None:
    """The store of a group, where the backend has one (MPI has none). Torch has no public name for it."""
    try:
        return distributed_c10d.PrefixStore("gradvote", distributed_c10d._get_process_group_store(group))
    except (AttributeError, KeyError, RuntimeError):
        return None
