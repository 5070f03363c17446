"""Failures across ranks: who failed, and what to do, told to everyone through the group's store."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import distributed_c10d

from gradvote.engines.common.arguments import check_seconds
from gradvote.engines.common.errors import LinkBroken
from gradvote.wire import WireError

LISTENING = 3.0
"""How long the others are asked why they failed, in seconds."""
_built: Counter[str] = Counter()
"""How many exchanges were begun over each group, by its name: ranks begin them in the same order."""
BUILDING, LOADED = "building", "loaded/{vote}"
"""Stand where the number of a step stands otherwise."""
ALONE = (
    "Rank {rank} has loaded a state of step {step}, and rank {others} has loaded none within {seconds:.0f} s. "
    "load_state_dict is called on all ranks between the same two votes, each with the file that it has saved itself at "
    "the same step."
)


class ExchangeError(RuntimeError):
    """The ranks could not finish a round together; names the ranks at fault. The group cannot be used any more."""


class Watch:
    """Tells the others why this rank failed, and learns why they did. Texts name ranks by their numbers in the job."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.rank, self.num_ranks = dist.get_rank(group), dist.get_world_size(group)
        self.ranks = dist.get_process_group_ranks(group)
        self.store = _store_of(group)
        self._number = _built[group.group_name]
        _built[group.group_name] += 1

    def failed(self, error: Exception, step: int) -> Exception:
        """Tell the others of an error in a step; the error to raise, with the ranks at fault where they are others."""
        if isinstance(error, LinkBroken):
            return self._explained(error, step)
        self._tell(step, f"{type(error).__name__}: {error}")
        return error

    def tell_of_building(self, error: Exception) -> None:
        """Tell the others why this rank could not be built."""
        self._tell(BUILDING, f"{type(error).__name__}: {error}")

    def causes_of_building(self, ranks: Sequence[int]) -> str:
        """What these ranks told of it; they have told before they said that they failed."""
        heard = self._listen(BUILDING, ranks)
        told = {rank: heard.get(rank) or "an error that its own log names" for rank in ranks}
        return "; ".join(f"rank {self.ranks[rank]} refused: {text.rstrip('.')}" for rank, text in told.items())

    def loaded(self, vote: int, step: int, came_from: int, timeout: float) -> list[int]:
        """The steps of the states that all ranks have loaded before this vote, or that of this one alone.

        A rank that is where it was does not wait for others. One that is not waits half of the time that the others
        wait in their exchange, so that they hear why it does not come.

        Raises:
            WireError: some rank has loaded none.
        """
        word, seconds = LOADED.format(vote=vote), timeout / 2
        self._tell(word, str(step))
        if step == came_from or self.store is None:
            return [step]
        heard = self._listen(word, range(self.num_ranks), seconds)
        missing = ", ".join(str(self.ranks[r]) for r in range(self.num_ranks) if r not in heard)
        if missing and self.store is not None:
            text = ALONE.format(rank=self.ranks[self.rank], step=step, others=missing, seconds=seconds)
            self._tell(came_from, f"WireError: {text}")  # where the others are
            raise WireError(text)
        return [int(heard[rank]) for rank in sorted(heard)]

    def _explained(self, error: LinkBroken, step: int) -> ExchangeError:
        self._tell(step, "")
        heard = self._listen(step, range(self.num_ranks))
        causes = [f"rank {self.ranks[r]} failed with {text}" for r, text in heard.items() if text]
        silent = [str(self.ranks[r]) for r in range(self.num_ranks) if r not in heard and r != self.rank]
        if silent:
            causes.append(f"rank {', '.join(silent)} did not answer: it ended, hangs or cannot be reached")
        cause = "; ".join(causes) or f"the connections broke ({error})"
        return ExchangeError(
            f"Rank {self.ranks[self.rank]} could not finish the exchange: {cause}. Look at the log of that rank, mend "
            "the cause, and start all ranks again from the last checkpoint."
        )

    def _tell(self, step: int | str, text: str) -> None:
        if self.store is not None:
            try:
                self.store.set(self._key(step, self.rank), text)
            except (RuntimeError, ValueError):
                self.store = None

    def _key(self, step: int | str, rank: int) -> str:
        """Several exchanges may share a group, one after another: each has words of its own."""
        return f"failed/{self._number}/{step}/{rank}"

    def _listen(self, step: int | str, ranks: Iterable[int], seconds: float = LISTENING) -> dict[int, str]:
        heard: dict[int, str] = {}
        until = time.monotonic() + seconds
        try:
            while self.store is not None and set(ranks) - set(heard) and time.monotonic() < until:
                for rank in set(ranks) - set(heard):
                    if self.store.check([self._key(step, rank)]):
                        heard[rank] = self.store.get(self._key(step, rank)).decode()
                time.sleep(0.02)
        except RuntimeError:
            self.store = None
        return heard


def check_group(group: object) -> None:
    """Raise TypeError for what is no process group: the name of a backend, a list of ranks."""
    if group is not None and not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            "group= takes a process group, as torch.distributed.new_group(ranks) gives it, or None for all ranks; got "
            f"{group!r}."
        )


def private_group(group: dist.ProcessGroup | None, timeout: float) -> dist.ProcessGroup | None:
    """A new group of all ranks, whose collectives no other code starts; None where `group` has only some of the ranks.

    Torch names groups of some ranks by the number of groups a rank has already, so their ranks may fail to meet.

    Raises:
        RuntimeError: torch.distributed is not initialised.
        TypeError: `group` is no process group.
    """
    if not dist.is_initialized():
        raise RuntimeError(
            "The ranks of torch.distributed exchange votes, but it is not initialised here. Call "
            "torch.distributed.init_process_group() first, in a script that torchrun starts; a single process can "
            "use gradvote.engines.simulation."
        )
    check_group(group)
    if group is not None and dist.get_world_size(group) < dist.get_world_size():
        return None
    check_seconds("timeout", timeout)
    wait = timedelta(seconds=timeout)
    new: dist.ProcessGroup = dist.new_group(timeout=wait, backend=dist.get_backend(group))
    return new


def _store_of(group: dist.ProcessGroup) -> distributed_c10d.Store | None:
    """The store of a group, where the backend has one (MPI has none). Torch has no public name for it."""
    try:
        return distributed_c10d.PrefixStore("gradvote", distributed_c10d._get_process_group_store(group))
    except (AttributeError, KeyError, RuntimeError):
        return None
