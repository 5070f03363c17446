"""Who may knock, how often and for how long: what a stranger costs is bounded, and what is refused is counted.

A handshake in progress is *pending*. There are few places for them: where all are taken, the one that has waited
longest must go, so that a flood of silent connections keeps nobody out who proves itself at once. An address that fails
again and again is not heard for a while, unless it is one that workers of this run have, or this machine's own; nor is
a worker that breaks the rules again and again after it has proven who it is.
"""

import ipaddress
import threading
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from gradvote.engines.elastic.net.channels import Channel

PENDING, PATIENCE = 32, 5.0
"""Handshakes at a time, and the longest that one may take, in seconds."""
OFFENCES, WINDOW, BARRED = 8, 30.0, 10.0
"""Who fails so often within so many seconds is not heard for so long."""
GIVEN_UP = 8 * OFFENCES
"""The same for who ends a connection unproven, or takes too long: workers of a machine that is busy do so as well."""
REMEMBERED = 1024


@dataclass
class Allowance:
    """Room for `burst` things at once, and `per_second` in the long run."""

    burst: float
    per_second: float
    left: float = field(init=False)
    at: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self.left = self.burst

    def take(self, amount: float = 1.0) -> bool:
        """Whether there is room for so much now; it is taken if there is."""
        now = time.monotonic()
        self.left, self.at = min(self.burst, self.left + (now - self.at) * self.per_second), now
        if self.left < amount:
            return False
        self.left -= amount
        return True


class Offenders:
    """Who has failed lately, by name; the latest `REMEMBERED` of them. Who does so `often` is barred."""

    def __init__(self, often: int = OFFENCES) -> None:
        self._often = often
        self._times: OrderedDict[object, deque[float]] = OrderedDict()
        self._until: OrderedDict[object, float] = OrderedDict()

    def offends(self, who: object) -> None:
        """It has failed once more."""
        now, times = time.monotonic(), self._times.pop(who, deque(maxlen=self._often))
        times.append(now)
        self._times[who] = times
        if len(times) == self._often and now - times[0] < WINDOW:
            self._until.pop(who, None)
            self._until[who] = now + BARRED
        for book in (self._times, self._until):
            while len(book) > REMEMBERED:
                book.popitem(last=False)

    def barred(self, who: object) -> bool:
        """Whether it is not heard now."""
        return self._until.get(who, 0.0) > time.monotonic()


class Gate:
    """Before it, handshakes; behind it, connections. `refused` counts, by reason, what did not get through."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._pending: OrderedDict[Channel, float] = OrderedDict()
        self._hosts: OrderedDict[str, None] = OrderedDict()
        self._offenders, self._hasty = Offenders(), Offenders(GIVEN_UP)

    def knocks(self, host: str) -> bool:
        """Whether to hear who has dialled from an address."""
        with self._lock:
            if host in self._hosts or not (self._offenders.barred(host) or self._hasty.barred(host)):
                return True
            self.refused["barred for a while"] += 1
            return False

    def enter(self, channel: Channel) -> None:
        """A handshake begins."""
        with self._lock:
            while len(self._pending) >= PENDING:
                self._end_oldest("too many handshakes at once")
            self._pending[channel] = time.monotonic()

    def leave(self, channel: Channel) -> None:
        """It has come to its end."""
        with self._lock:
            self._pending.pop(channel, None)

    def sweep(self) -> None:
        """End handshakes that take too long."""
        with self._lock:
            oldest = time.monotonic() - PATIENCE
            while self._pending and next(iter(self._pending.values())) < oldest:
                self._end_oldest("too slow")

    def shed(self) -> None:
        """End all handshakes: the process has no descriptors left."""
        with self._lock:
            while self._pending:
                self._end_oldest("no descriptors left")

    def welcome(self, host: str) -> None:
        """Somebody at this address has proven to be of this run: it is not barred for what strangers there do."""
        with self._lock:
            self._hosts[host] = None
            while len(self._hosts) > REMEMBERED:
                self._hosts.popitem(last=False)

    def refuse(self, reason: str, who: object = None) -> None:
        """Count something that did not get through, and who it was: an address, or a worker's number."""
        with self._lock:
            self.refused[reason] += 1
            if who is not None and not (isinstance(who, str) and _is_own(who)):
                self._offenders.offends(who)

    def gave_up(self, reason: str, host: str) -> None:
        """Count somebody at an address who has ended its connection, or taken too long, before it was known."""
        with self._lock:
            self.refused[reason] += 1
            if not _is_own(host):
                self._hasty.offends(host)

    def barred(self, number: int) -> bool:
        """Whether a worker is not heard for a while."""
        with self._lock:
            return self._offenders.barred(number)

    def _end_oldest(self, reason: str) -> None:
        channel, _ = self._pending.popitem(last=False)
        channel.hang_up()
        self.refused[reason] += 1


def _is_own(host: str) -> bool:
    """Whether an address is the loopback's: who is barred there bars the workers of this machine."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
