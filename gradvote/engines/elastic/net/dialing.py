"""How places are dialled: side by side, so that one which is silent holds up no other, and more patiently each time.

On a machine that is busy, or by a link that is long, an answer may take seconds. Whoever gave up after the same second
each time would never be connected.
"""

import threading
import time
from collections.abc import Callable

CONNECTING, ANSWERING = 0.5, 1.0
"""Seconds for a connection, and for the proof and the greeting of the other end, at first."""
TIMES = 4.0
"""So many times as long at last: less than the other end has patience for (`gate.PATIENCE`); and not so long that a
link which has been mended is found late."""
AT_ONCE = 32
"""Places that are dialled at a time."""


class Dialling:
    """`begin` dials a place in a thread of its own; who is dialled already, or has to wait, is left alone."""

    def __init__(self) -> None:
        self._busy, self._lock = set[int](), threading.Lock()
        self._times: dict[int, float] = {}
        self._begun: dict[int, float] = {}

    def begin(self, ticket: int, dial: Callable[[], None]) -> None:
        """Dial the place of a process, unless that is being done, or too many others are dialled."""
        with self._lock:
            if ticket in self._busy or len(self._busy) >= AT_ONCE:
                return
            self._busy.add(ticket)
            self._begun[ticket] = time.monotonic()
        try:
            threading.Thread(target=self._work, args=(ticket, dial), name="gradvote dials", daemon=True).start()
        except RuntimeError:  # the system has no thread for it: it is dialled by the next look
            self._ends(ticket)

    def begun(self, ticket: int) -> float:
        """When it was dialled last: who was so longest ago comes first."""
        return self._begun.get(ticket, 0.0)

    def connecting(self, ticket: int) -> float:
        """How long to wait for a connection to this process."""
        return CONNECTING * self._times.get(ticket, 1.0)

    def answering(self, ticket: int) -> float:
        """How long to wait for its answer."""
        return ANSWERING * self._times.get(ticket, 1.0)

    def too_short(self, ticket: int) -> None:
        """It did not answer in time: twice as long the next time."""
        self._times[ticket] = min(TIMES, 2 * self._times.get(ticket, 1.0))

    def answers(self, ticket: int) -> None:
        """It did."""
        self._times.pop(ticket, None)

    def _work(self, ticket: int, dial: Callable[[], None]) -> None:
        try:
            dial()
        finally:
            self._ends(ticket)

    def _ends(self, ticket: int) -> None:
        with self._lock:
            self._busy.discard(ticket)
