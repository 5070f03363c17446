"""What one worker may make a register keep: a share, so that one gone bad leaves room for the decisions of the others.

A decision that another worker than its writer has asked for is *seen*: the run has come as far as its slot. Decisions
on slots beyond that are *ahead*. A worker may have so many of them; they are never dropped to make room, and raise no
floor, so that decisions on slots which the run has not reached shut out nobody from those that it does reach.
"""

import logging
from collections import Counter
from collections.abc import Iterator

LOG = logging.getLogger("gradvote.elastic")
AHEAD, AHEAD_BYTES = 4096, 4 << 20
"""Decisions of one worker that nobody else has asked for, and their bytes."""
OTHERS, OTHER_BYTES = 10_000, 8 << 20
"""All else that one worker may write: a ticket, an address and at most a proof for each of its processes."""
Slot = tuple[str, tuple[int, int]]


class Shares:
    """Who has written what; `refused` counts, by worker, what went beyond its share. Entries by nobody have none."""

    def __init__(self) -> None:
        self.refused: Counter[int] = Counter()
        self._ahead: dict[str, tuple[Slot, int, int]] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._nums, self._bytes = Counter[tuple[int, bool]](), Counter[tuple[int, bool]]()

    def refusal(self, slot: Slot | None, size: int, by: int | None) -> str:
        """Why a worker may not write this, or nothing."""
        if by is None:
            return ""
        ahead, own = self._is_ahead(slot), (by, slot is not None)
        most, most_bytes = (AHEAD, AHEAD_BYTES) if slot is not None else (OTHERS, OTHER_BYTES)
        if (slot is not None and not ahead) or (self._nums[own] < most and self._bytes[own] + size <= most_bytes):
            return ""
        what = "decisions on slots that no other worker has asked for" if ahead else "entries"
        text = f"Worker {by} has written {self._nums[own]} {what}, and may write no more. Look at its machine."
        if not self.refused[by]:
            LOG.warning("%s", text)
        self.refused[by] += 1
        return text

    def keeps(self, key: str, slot: Slot | None, size: int, by: int | None) -> bool:
        """Take note of an entry that is kept; whether it is ahead."""
        if by is None or (slot is not None and not self._is_ahead(slot)):
            return False
        self._nums[by, slot is not None] += 1
        self._bytes[by, slot is not None] += size
        if slot is not None:
            self._ahead[key] = slot, size, by
        return slot is not None

    def asked(self, key: str, by: int | None) -> Iterator[str]:
        """A worker asks for an entry: those that are ahead no more."""
        own = self._ahead.get(key)
        if own is None or by in (None, own[2]):
            return
        group, place = own[0]
        self._seen[group] = max(place, self._seen.get(group, place))
        for passed, (slot, size, writer) in list(self._ahead.items()):
            if not self._is_ahead(slot):
                del self._ahead[passed]
                self._nums[writer, True] -= 1
                self._bytes[writer, True] -= size
                yield passed

    def _is_ahead(self, slot: Slot | None) -> bool:
        return slot is not None and (slot[0] not in self._seen or slot[1] > self._seen[slot[0]])
