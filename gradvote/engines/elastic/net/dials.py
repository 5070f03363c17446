"""Whom to dial next, several at a time, and how long to wait for each.

A place that does not answer must not hold up the others, and a patience that is fixed shuts out for ever who needs
longer: a machine with more work than processors, a link over a satellite. So each place is dialled by a thread of its
own, the one that was tried longest ago first, and each time-out doubles the patience with it.
"""

import threading
import time
from collections.abc import Callable, Iterable

from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.net.gate import PATIENCE

CONNECTING, ANSWERING = 0.5, 1.0
"""Seconds for a connection, and for each step of the greeting, at first."""
LONGEST = 2.0, PATIENCE
"""Their limits: the system asks for a connection again after one second, and the other side ends what takes longer."""
SIDE_BY_SIDE = 8


class Dials:
    """The places that are being dialled, by ticket, and what is known of their slowness."""

    def __init__(self, dial: Callable[[Presence], None]) -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._under_way: set[int] = set()
        self._tried: dict[int, float] = {}
        self._time_outs: dict[int, int] = {}

    def start(self, places: Iterable[Presence]) -> None:
        """Dial in the background, as far as there is room."""
        for place in sorted(places, key=lambda place: self._tried.get(place.ticket, 0.0)):
            with self._lock:
                if len(self._under_way) >= SIDE_BY_SIDE:
                    return
                if place.ticket in self._under_way:
                    continue
                self._under_way.add(place.ticket)
            self._tried[place.ticket] = time.monotonic()
            try:
                threading.Thread(target=self._run, args=(place,), name="gradvote _dial", daemon=True).start()
            except RuntimeError:  # the system has no thread for it
                self._end(place)

    def patience(self, place: Presence) -> tuple[float, float]:
        """Seconds for a connection to it, and for each step of the greeting."""
        longer = 2.0 ** self._time_outs.get(place.ticket, 0)
        return min(CONNECTING * longer, LONGEST[0]), min(ANSWERING * longer, LONGEST[1])

    def failed(self, place: Presence, error: OSError) -> bool:
        """It was not reached; whether only because it was waited for in vain."""
        if isinstance(error, TimeoutError):
            self._time_outs[place.ticket] = min(self._time_outs.get(place.ticket, 0) + 1, 8)
        return isinstance(error, TimeoutError)

    def answered(self, place: Presence) -> None:
        """It is as fast as it was expected to be."""
        self._time_outs.pop(place.ticket, None)

    def _run(self, place: Presence) -> None:
        try:
            self._dial(place)
        finally:
            self._end(place)

    def _end(self, place: Presence) -> None:
        with self._lock:
            self._under_way.discard(place.ticket)
