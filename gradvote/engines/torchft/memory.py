"""A worker's own memory over steps of which it does not know, or knows wrongly, whether others have taken them."""

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.torchft.greetings import HISTORY_BYTES

ATTEMPTS = 4
Name = tuple[int, int, bytes]
"""Step, attempt and digest of a ballot."""


@dataclass
class Account:
    """Which ballots count, over all: what travels to a replica that heals, beside model and server.

    `history` stands for all ballots that were applied, in their order; `counted` has the last one of each worker.
    """

    history: bytes
    counted: dict[int, Name] = field(default_factory=dict)

    def add(self, slot: Slot, digests: Mapping[int, bytes]) -> None:
        """A step was taken with these ballots."""
        hasher = hashlib.blake2b(self.history, digest_size=HISTORY_BYTES)
        for number, digest in sorted(digests.items()):
            self.counted[number] = (slot.step, slot.attempt, digest)
            hasher.update(repr((number, self.counted[number])).encode())
        self.history = hasher.digest()

    def saved(self) -> dict[str, Any]:
        """As a part of a state."""
        return {"history": self.history, "counted": dict(self.counted)}


def account_from(state: Mapping[str, Any]) -> Account:
    """The account in a state.

    Raises:
        ValueError: there is none.
    """
    history, counted = state.get("history"), state.get("counted")
    if not isinstance(history, bytes) or len(history) != HISTORY_BYTES or not isinstance(counted, dict):
        raise ValueError("The state to load does not say which ballots were counted; it is not one of a vote's.")
    return Account(history, {int(number): _name_in(own) for number, own in counted.items()})


def _name_in(own: Any) -> Name:
    if not isinstance(own, list | tuple) or [*map(type, own)] != [int, int, bytes]:
        raise ValueError(f"The state to load names a ballot as {str(own)[:100]}, not by its step, attempt and digest.")
    step, attempt, digest = own
    return step, attempt, digest


class Pending:
    """A worker's ballots of unknown fate: those of a step that was refused here, and the last one that was counted.

    Others may have taken a step that was refused here, where a replica died just then; the reverse, too. What they did
    is known from the account of the replica this one heals from.
    """

    def __init__(self) -> None:
        self._sent: deque[tuple[Name, Ballot]] = deque(maxlen=ATTEMPTS)
        self._last: tuple[Name, Ballot] | None = None

    def refused(self, ballot: Ballot, digest: bytes) -> None:
        """A step was not taken here, after this ballot had been sent."""
        self._sent.append((_name(ballot, digest), ballot))

    def committed(self, ballot: Ballot | None, digest: bytes) -> None:
        """A step was taken here, with this ballot of this worker's."""
        self._sent.clear()
        if ballot is not None:
            self._last = _name(ballot, digest), ballot

    def settle(self, replica: Replica, counted: Name | None) -> None:
        """Set the worker's memory right: others know this as its last ballot that counts."""
        found = next((ballot for name, ballot in self._sent if name == counted), None)
        if found is not None:
            replica.keep(found, counted=True)
        elif self._last is not None and self._last[0] != counted:
            replica.keep(self._last[1], counted=False)
        self.forget()

    def forget(self) -> None:
        """Nothing is pending."""
        self._sent.clear()
        self._last = None


def _name(ballot: Ballot, digest: bytes) -> Name:
    return ballot.slot.step, ballot.slot.attempt, digest
