"""What outlives every worker: a store that keeps the first proposal for each slot, and who is where.

It is trusted, and a healthy round does not touch it. `gradvote launch` serves it; under torchrun it is the store of the
agent; or an etcd (see `stores`). An entry that nobody can read would stop all who look at it: `read` finds it out.
"""

import contextlib
import json
import re
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import UNREADABLE, Proof, proofs_from_raw, proofs_to_raw
from gradvote.engines.elastic.consensus.presence import Presence, presence_from
from gradvote.engines.elastic.consensus.records import Record, record_from
from gradvote.engines.elastic.consensus.storage import RegisterLost, Storage

PREFIX = "gradvote/elastic"
BRIEF, REFRESHED, PAUSE = 1.0, 2.0, 0.1
"""Seconds: the longest that one call is waited for, by who tries again; between looks for deleted entries; between
tries."""
T = TypeVar("T")


class Register:
    """One writer wins, everyone reads the same. `generation` counts the groups founded so far.

    Entries are written once and never changed, so all that was read is known for good. Calls end within `brief` seconds
    with an answer or `RegisterLost`, and are made again by those who wait for something; a process that has nothing
    else to do yet (`ticket`, `free_number`, `run_id`) waits up to `patience`.
    """

    def __init__(self, storage: Storage, name: str = "", patience: float = 300.0) -> None:
        self._storage, self._prefix = storage, f"{PREFIX}/{name}"
        self.brief, self.patience = min(BRIEF, patience), patience
        self._generation = self._num_tickets = 0
        self._places: dict[int, Presence] = {}
        self._refreshed = time.monotonic()
        self.exposed = storage.exposed

    def ticket(self) -> int:
        """A number that no other process has or will have, from 1."""
        nonce = secrets.token_hex(16)
        return self._patiently(lambda: self._append("tickets", self._num_tickets, nonce))

    def num_tickets(self) -> int:
        """How many tickets there are."""
        self._num_tickets = self._last("tickets", self._num_tickets)
        return self._num_tickets

    def free_number(self) -> int:
        """A worker number that was not given before."""
        nonce = secrets.token_hex(16)
        return self._patiently(lambda: self._append("numbers", 0, nonce)) - 1

    def publish(self, place: Presence) -> None:
        """Tell all where this process is."""
        self._patiently(lambda: self._first(f"places/{place.ticket}", place.to_json()))

    def place(self, ticket: int) -> Presence | None:
        """Where a process is; None before it has said so, and where nobody can read what it has said."""
        if ticket not in self._places and (text := self._get(f"places/{ticket}")) is not None:
            with contextlib.suppress(ValueError):
                self._places[ticket] = presence_from(text)
        return self._places.get(ticket)

    def generation(self) -> int:
        """The number of groups founded so far: 0 before the first one."""
        self._generation = self._last("founded", self._generation)
        return self._generation

    def found(self, generation: int, record: Record) -> Record:
        """Found the group of this generation, or learn who has."""
        return record_from(self._first(f"founded/{generation}", record.to_json()))

    def founders(self, generation: int) -> Record | None:
        """The record with which a group began."""
        text = self._get(f"founded/{generation}")
        return None if text is None else record_from(text)

    def decide(self, generation: int, record: Record) -> Record:
        """The decision on the record's slot: this one, where none was there before.

        Raises:
            SlotPast: that was so long ago that it is not kept any more.
        """
        return record_from(self._first(self._slot(generation, record.slot), record.to_json()))

    def decision(self, generation: int, slot: Slot) -> Record | None:
        """The decision on a slot, where the register made it."""
        text = self._get(self._slot(generation, slot))
        return None if text is None else record_from(text)

    def confirm(self, generation: int, record: Record) -> Record:
        """What has become of a slot after its ballots were agreed on: this, where nothing was there before.

        Raises:
            SlotPast: that was so long ago that it is not kept any more.
        """
        return record_from(self._first(self._confirmation(generation, record.slot), record.to_json()))

    def confirmed(self, generation: int, slot: Slot) -> Record | None:
        """The same, where the register was asked."""
        text = self._get(self._confirmation(generation, slot))
        return None if text is None else record_from(text)

    def run_id(self) -> bytes:
        """16 random bytes: the same for all who ask, and for no other run."""
        return bytes.fromhex(self._patiently(lambda: self._first("run", secrets.token_hex(16))))

    def accuse(self, proof: Proof) -> None:
        """Keep a proof for groups that are founded later."""
        self._append("proofs", 0, json.dumps(proofs_to_raw([proof])))

    def accusations(self) -> list[Proof]:
        """The proofs that were kept; the same lie may be among them more than once, by other names."""
        texts = (self._get(f"proofs/{k}") for k in range(1, self._last("proofs", 0) + 1))
        return [proof for text in texts if text is not None for proof in _readable(text)]

    def end(self, generation: int, step: int) -> None:
        """Tell those who come too late that the last step was taken."""
        self._first(f"ended/{generation}", str(step))

    def ended(self) -> int | None:
        """The number of steps with which the present group ended; None while it is at work."""
        text = self._get(f"ended/{self.generation()}")
        return None if text is None else int(text)

    def refresh(self) -> None:
        """Enter again what somebody has deleted since it was seen here; called often, it looks every other second."""
        if time.monotonic() > self._refreshed + REFRESHED:
            self._refreshed = time.monotonic()
            self._storage.refresh(self.brief)

    def _slot(self, generation: int, slot: Slot) -> str:
        return f"slots/{generation}/{slot.step}/{slot.attempt}"

    def _confirmation(self, generation: int, slot: Slot) -> str:
        return f"confirmed/{self._slot(generation, slot)}"

    def _last(self, name: str, known: int) -> int:
        """The last of entries that are numbered from 1 without gaps; those up to `known` are there."""
        while self._get(f"{name}/{known + 1}") is not None:
            known += 1
        return known

    def _append(self, name: str, known: int, value: str) -> int:
        """Write the first numbered entry that is free; its number. It may be there already, if an answer was lost."""
        number = known + 1
        while self._first(f"{name}/{number}", value) != value:
            number += 1
        return number

    def _first(self, name: str, value: str) -> str:
        return self._storage.first(f"{self._prefix}/{name}", value, self.brief)

    def _get(self, name: str) -> str | None:
        return self._storage.get(f"{self._prefix}/{name}", self.brief)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Ask again until there is an answer, for as long as a process waits for others."""
        end = time.monotonic() + self.patience
        while True:
            try:
                return call()
            except RegisterLost:
                if time.monotonic() > end:
                    raise
                time.sleep(PAUSE)


def proofs_from(text: str) -> tuple[Proof, ...]:
    """The proofs in an entry.

    Raises:
        ValueError: it has something else.
    """
    try:
        return proofs_from_raw(json.loads(text))
    except UNREADABLE as error:
        raise ValueError(f"These are no proofs: {error}") from error


_READERS: dict[str, Callable[[str], object]] = {
    r"places/\d+": presence_from, r"(founded|(confirmed/)?slots/\d+/\d+)/\d+": record_from, r"proofs/\d+": proofs_from,
    r"ended/\d+": int, r"run": bytes.fromhex,
}  # fmt: skip


def read(key: str, value: str) -> object:
    """What an entry says, by the end of its key; the text itself, where any text will do.

    Raises:
        ValueError: the text is not what an entry of this key has to be.
    """
    readers = (reader for pattern, reader in _READERS.items() if re.search(rf"/{pattern}$", key, re.ASCII))
    return next(readers, str)(value)


def _readable(text: str) -> tuple[Proof, ...]:
    """The proofs in an entry; none where a worker gone bad has written something else."""
    with contextlib.suppress(ValueError):
        return proofs_from(text)
    return ()
