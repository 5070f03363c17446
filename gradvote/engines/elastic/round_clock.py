"""When a round waits no longer: what time tells an agreement."""

import time

from gradvote.engines.elastic.consensus.agreement import Agreement
from gradvote.engines.elastic.timeouts import Timeouts, TooFewWorkers

IDLE = 0.25
STOPPED = 3.0
"""Seconds between two looks that no waiting explains: this process was stopped, and has not waited meanwhile."""


class Waited:
    """How long somebody has waited since `begin`: time in which this process was stopped does not count."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """From now on."""
        self._looked_at, self._seconds = time.monotonic(), 0.0

    def so_far(self) -> float:
        """Seconds, to be asked again and again."""
        now = time.monotonic()
        gap, self._looked_at = now - self._looked_at, now
        self._seconds += gap if gap <= STOPPED else 0.0
        return self._seconds


class RoundClock:
    """Monotonic seconds since a round was `started`, and since the register has had to decide."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts, self.started = timeouts, 0.0
        self._slow_since: float | None = None
        self._beat_at, self._waited = 0.0, Waited()

    def start(self) -> None:
        """A round begins, or begins again after an error."""
        self.started, self._slow_since = time.monotonic(), None
        self._waited.begin()

    @property
    def patience(self) -> float:
        """How long nothing has to be done, if nothing arrives."""
        now = time.monotonic()
        return min([mark - now for mark in self._marks() if mark > now] + [IDLE])

    @property
    def late(self) -> bool:
        """Whether all who answer should have settled the round by now."""
        return time.monotonic() > self.started + self._timeouts.settled

    def look(self, agreement: Agreement) -> None:
        """Tell an agreement what has become of its waiting.

        Raises:
            TooFewWorkers: the group stayed too small for too long.
        """
        now, t = time.monotonic(), self._timeouts
        if now >= self.started + t.deadline and not agreement.late:
            agreement.expired()
        if agreement.slow and self._slow_since is None:
            self._slow_since = self._beat_at = now
            agreement.slowed()
        if self._slow_since is not None and agreement.holders and now >= self._beat_at + t.grace:
            self._beat_at = now
            agreement.beat()
        if self._slow_since is not None:
            agreement.settled = now >= self._slow_since + t.grace
            agreement.impatient = now >= self._slow_since + 3 * t.grace
            agreement.desperate = now >= self._slow_since + 3 * t.grace + t.deadline
        if self._waited.so_far() >= t.timeout:
            raise TooFewWorkers(
                f"Step {agreement.slot.step} could not be decided within {t.timeout:g} s: {len(agreement.held)} "
                f"ballots of {len(agreement.members)} members are here, min_workers is {agreement.quorum}. Start "
                "workers again."
            )

    def _marks(self) -> list[float]:
        t = self._timeouts
        marks = [self.started + t.deadline, self.started + t.timeout]
        if self._slow_since is None:
            return marks
        waits = t.grace, 3 * t.grace, 3 * t.grace + t.deadline
        return [*marks, self._beat_at + t.grace, *(self._slow_since + wait for wait in waits)]
