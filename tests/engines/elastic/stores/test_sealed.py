"""A store that anyone may write to, and a stranger who does."""

import threading
import time
from typing import Any

import pytest
from torch.distributed import HashStore

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.register import PREFIX, Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.stores.bounded import Bounded
from gradvote.engines.elastic.stores.opening import checked_secret, storage_on
from gradvote.engines.elastic.stores.sealed import Sealed
from gradvote.engines.elastic.stores.torch_store import TorchStore

SECRET = b"a secret that nobody else has"
TRUE, FALSE = (Record(Slot(7), outcome, members=(Member(1, 0),)) for outcome in (Outcome.VOID, Outcome.STOP))


def test_what_a_stranger_writes_is_no_entry() -> None:
    """In advance, in the place of what is there, with bytes that are no text, and with the code of another entry."""
    store = HashStore()
    store.set(f"{PREFIX}//slots/1/7/0", FALSE.to_json())
    store.set(f"{PREFIX}//tickets/1", b"\xff\xfe\0".decode("latin1"))
    store.set(f"{PREFIX}//places/1", "{}")
    register = Register(storage_on(store, SECRET))
    assert register.decide(1, TRUE) == TRUE and register.ticket() == 1 and register.place(1) is None
    other = Register(storage_on(store, SECRET))
    store.set(f"{PREFIX}//slots/1/8/0", store.get(f"{PREFIX}//slots/1/7/0").decode())
    assert other.decision(1, Slot(7)) == TRUE and other.decision(1, Slot(8)) is None


def test_what_a_stranger_deletes_comes_back() -> None:
    store = HashStore()
    register, other = (Register(storage_on(store, SECRET)) for _ in range(2))
    place = Presence(register.ticket(), 0, "127.0.0.1", 4000, 0, "state")
    register.publish(place)
    register.found(1, TRUE)
    register.decide(1, TRUE)
    for key in ("tickets/1", "places/1", "founded/1", "slots/1/7/0"):
        assert store.delete_key(f"{PREFIX}//{key}")
    register._refreshed -= 10
    register.refresh()
    assert other.place(1) == place and other.num_tickets() == 1 and other.founders(1) == TRUE
    assert other.decide(1, FALSE) == TRUE


def test_who_writes_over_an_entry_for_ever_is_named() -> None:
    class Fought(TorchStore):
        def swap(self, key: str, expected: bytes | None, value: bytes, seconds: float) -> bytes:
            return b"mine, mine, mine"

    with pytest.raises(RegisterLost, match="without the run's secret writes over places/1"):
        Sealed(Fought(HashStore()), SECRET).first("places/1", "x", 1.0)


def test_a_store_that_hangs_is_not_waited_for() -> None:
    class Hanging:
        there = threading.Event()

        def compare_set(self, *of: Any) -> bytes:
            self.there.wait()
            return b"late"

    register = Register(Sealed(TorchStore(Hanging())), patience=0.5)  # type: ignore[arg-type]  # all that is called
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(RegisterLost, match="was stopped or cannot be reached"):
            register.place(1)
        assert 0.4 < time.monotonic() - began < 3.0
    Hanging.there.set()


def test_a_call_that_fails_says_so_and_the_next_one_is_made() -> None:
    bounded = Bounded()
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, 1.0)
    assert bounded(lambda: 1 + 1, 1.0) == 2


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 characters; this one has 5"):
        checked_secret("12345")
