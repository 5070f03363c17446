"""The entries of a register in memory, bounded, and on disk where there is a journal."""

import logging
import re
import threading
from collections import deque

from gradvote.engines.elastic.consensus.storage import SlotPast
from gradvote.engines.elastic.stores.journal import Journal
from gradvote.engines.elastic.stores.shares import Shares

LOG = logging.getLogger("gradvote.elastic")
LONGEST_KEY, LONGEST_VALUE = 200, 1 << 19
MOST_ENTRIES, MOST_BYTES, KEPT_SLOTS = 100_000, 64 << 20, 10_000
REWRITTEN = 4 << 20
"""A journal of more bytes is written anew where most of them are of entries that are not kept any more."""
FLOOR = "\0floor/"
"""Before the name of a group: up to which of its slots decisions are not kept any more. No client may write that."""
_SLOT = re.compile(r"(.*/slots/\d{1,20})/(\d{1,20})/(\d{1,20})")
Place = tuple[int, int]


class NoRoom(ValueError):
    """An entry is too long, or there are too many, or the disk is full; nothing was kept."""


class Table:
    """Entries that never change. Of decisions on slots the latest stay, within `most_bytes`; older ones are refused.

    All that a run writes beside them (a ticket, an address and at most a proof for each process) has `most_entries` and
    as many bytes of its own, so that decisions always have room. Where it is known `by` which worker something is
    written, that is bounded for each of them (`shares`).
    """

    def __init__(
        self,
        journal: Journal | None = None,
        kept: int = KEPT_SLOTS,
        most: int = MOST_ENTRIES,
        most_bytes: int = MOST_BYTES,
        rewritten: int = REWRITTEN,
    ) -> None:
        self._journal, self._kept, self._most, self._most_bytes = journal, kept, most, most_bytes
        self._rewritten = rewritten
        self._entries: dict[str, str] = {}
        self._slots, self._floors = deque[str](), dict[str, Place]()
        self._slot_bytes = self._other_bytes = self._ahead_bytes = self._num_ahead = 0
        self.shares = Shares()
        self._lock = threading.Lock()
        for key, value in journal.entries() if journal is not None else ():
            if key.startswith(FLOOR):
                self._floors[key.removeprefix(FLOOR)] = _place(*value.split("/"))
            else:
                self._keep(key, value)

    def get(self, key: str, by: int | None = None) -> str | None:
        """The entry, where there is one; `by` is the worker that asks."""
        with self._lock:
            self._asked(key, by)
            return self._entries.get(key)

    def first(self, key: str, value: str, by: int | None = None) -> str:
        """The entry, which is this value where there was none before.

        Raises:
            NoRoom: it cannot be kept, or goes beyond the worker's share; nothing has changed.
            SlotPast: it would be a decision on a slot that is older than those that are kept.
        """
        with self._lock:
            known = self._entries.get(key)
            if known is not None:
                self._asked(key, by)
                return known
            self._check(key, value)
            if refusal := self.shares.refusal(_slot(key), len(value), by):
                raise NoRoom(refusal)
            if self._journal is not None:
                try:
                    self._journal.append(key, value)
                except (OSError, ValueError) as error:  # ValueError: it is closed
                    raise NoRoom(f"The register cannot write its journal ({error}). Make room on that disk.") from error
            self._keep(key, value, by)
            self._tidy()
            return value

    def close(self) -> None:
        """Let another server use the journal; nothing can be kept from now on."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()

    def _tidy(self) -> None:
        """Write the journal anew where most of it is of decisions of long ago."""
        journal, used = self._journal, self._slot_bytes + self._other_bytes + self._ahead_bytes
        if journal is not None and journal.size > max(self._rewritten, 4 * used):
            floors = [(FLOOR + group, f"{step}/{attempt}") for group, (step, attempt) in self._floors.items()]
            try:
                journal.rewrite([*floors, *self._entries.items()])
            except OSError as error:  # it goes on growing, and is tried again
                LOG.warning("The journal cannot be written anew (%s).", error)
                self._rewritten = 2 * journal.size

    def _check(self, key: str, value: str) -> None:
        if key.startswith(FLOOR):
            raise NoRoom("That key is the register's own.")
        if len(key.encode()) > LONGEST_KEY or len(value.encode()) > LONGEST_VALUE:
            raise NoRoom(f"An entry has at most {LONGEST_KEY} and {LONGEST_VALUE} bytes; {key[:LONGEST_KEY]} has more.")
        slot = _slot(key)
        if slot is not None and slot[1] <= self._floors.get(slot[0], (-1, 0)):
            raise SlotPast(f"The decision on {key} is not kept any more.")
        num_others = len(self._entries) - len(self._slots) - self._num_ahead
        if slot is None and (num_others >= self._most or self._other_bytes + len(value) > self._most_bytes):
            raise NoRoom(f"The register is full: it keeps at most {self._most} entries. Start a new run.")

    def _asked(self, key: str, by: int | None) -> None:
        for passed in self.shares.asked(key, by):
            self._num_ahead -= 1
            self._ahead_bytes -= len(self._entries[passed])
            self._pass(passed)

    def _keep(self, key: str, value: str, by: int | None = None) -> None:
        self._entries[key] = value
        slot = _slot(key)
        if self.shares.keeps(key, slot, len(value), by):
            self._num_ahead += 1
            self._ahead_bytes += len(value)
        elif slot is None:
            self._other_bytes += len(value)
        else:
            self._pass(key)

    def _pass(self, key: str) -> None:
        """The run has come as far as this slot: it is among those of which the latest are kept."""
        self._slots.append(key)
        self._slot_bytes += len(self._entries[key])
        while len(self._slots) > self._kept or self._slot_bytes > self._most_bytes:
            self._drop(self._slots.popleft())

    def _drop(self, key: str) -> None:
        self._slot_bytes -= len(self._entries.pop(key))
        slot = _slot(key)
        assert slot is not None
        self._floors[slot[0]] = max(slot[1], self._floors.get(slot[0], (-1, 0)))


def _slot(key: str) -> tuple[str, Place] | None:
    """The group and the slot that a key is for; None for other entries."""
    match = _SLOT.fullmatch(key)
    return None if match is None else (match[1], _place(match[2], match[3]))


def _place(step: str, attempt: str) -> Place:
    return int(step), int(attempt)
