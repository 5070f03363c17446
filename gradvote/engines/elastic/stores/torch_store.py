"""A torch Store, such as torchrun's: anyone who reaches its port may read, write and delete."""

from datetime import timedelta

from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.net.addresses import families, joined
from gradvote.engines.elastic.stores.bounded import Bounded
from gradvote.engines.elastic.stores.sealed import Swapping

NOTHING = b"gradvote: nothing is here"
"""What no entry is: to exchange it for something gives what is there, at once and without a change."""


class TorchStore(Swapping):
    """`compare_set` alone is used: `get` would wait for an entry that is not there."""

    def __init__(self, store: Store) -> None:
        self._store, self._bounded = store, Bounded()

    def get(self, key: str, seconds: float) -> bytes | None:
        there = self._exchange(key, NOTHING, NOTHING, seconds)
        return None if there == NOTHING else there

    def swap(self, key: str, expected: bytes | None, value: bytes, seconds: float) -> bytes | None:
        there = self._exchange(key, expected or b"", value, seconds)
        return None if there == (expected or b"") != value else there

    def _exchange(self, key: str, expected: bytes, value: bytes, seconds: float) -> bytes:
        def call() -> bytes:
            # bytes are taken as they are, where a str would be encoded; what torch says of its arguments is less
            return bytes(self._store.compare_set(key, expected, value))  # type: ignore[arg-type]

        try:
            return self._bounded(call, seconds)
        except (RuntimeError, TimeoutError) as error:
            raise RegisterLost(
                "The store that members agree through does not answer: its process ended, was stopped or cannot be "
                "reached. Start the run again from its last checkpoint, with a new store."
            ) from error


def connected(host: str, port: int, timeout: float) -> TCPStore:
    """A client of the TCPStore there.

    Raises:
        ValueError: the name does not resolve, or nobody answers there.
    """
    families(host)
    try:
        limit = timedelta(seconds=timeout)
        return Bounded()(lambda: TCPStore(host, port, is_master=False, timeout=limit), timeout)
    except (RuntimeError, TimeoutError) as error:
        raise ValueError(
            f"No store answers at {joined(host, port)}. Start the run with `gradvote launch` or torchrun."
        ) from error
