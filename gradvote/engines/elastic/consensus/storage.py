"""What a register needs of a store: an entry is written once, and then stays as it is."""

from typing import Protocol


class RegisterLost(RuntimeError):
    """The store does not answer, or cannot keep more: members cannot agree on anything out of the ordinary now."""


class SlotPast(RuntimeError):
    """The slot is so old that its decision is not kept any more: who asks has to learn from the others."""


class Storage(Protocol):
    """Entries by key. Every call ends within `seconds`, whatever the store does; it may be repeated, to no harm.

    `exposed`: others than the processes of the run may write to it and delete from it.
    """

    exposed: bool

    def get(self, key: str, seconds: float) -> str | None:
        """The entry; None where there is none.

        Raises:
            RegisterLost: no answer came in time.
        """

    def first(self, key: str, value: str, seconds: float) -> str:
        """The entry, which is this value where there was none before.

        Raises:
            RegisterLost: no answer came in time (the value may have been kept all the same), or there is no room.
            SlotPast: it is a decision on a slot of long ago.
        """

    def refresh(self, seconds: float) -> None:
        """Enter again what was seen here and has been deleted since, where a store lets others delete."""
