"""How far measurements are: within each one, over all of them, and how long they will still take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

LITTLE = 0.02
"""The share of a measurement from which on its own pace says how long it takes."""


@dataclass
class Piece:
    """Cells that are measured together: whose they are, how they are called, how far they are (from 0 to 1)."""

    claim: str
    name: str
    cells: int
    begun: float | None = None
    seconds: float | None = None
    share: float = 0.0
    note: str = ""

    @property
    def running(self) -> bool:
        """Whether it is being measured."""
        return self.begun is not None and self.seconds is None


@dataclass
class Board:
    """All measurements of `processes`, by key; `before` cells had a record already."""

    processes: int = 1
    before: int = 0
    pieces: dict[str, Piece] = field(default_factory=dict)

    def tell(self, key: str, share: float = 0.0, note: str = "", now: float | None = None) -> None:
        """A measurement has begun, or is this far."""
        piece = self.pieces[key]
        piece.begun = (time.monotonic() if now is None else now) if piece.begun is None else piece.begun
        piece.share, piece.note = share, note

    def end(self, key: str, now: float | None = None) -> None:
        """A measurement has its record."""
        piece, now = self.pieces[key], time.monotonic() if now is None else now
        if piece.seconds is None:
            piece.seconds, piece.share = now - (now if piece.begun is None else piece.begun), 1.0

    @property
    def total(self) -> int:
        """All cells."""
        return self.before + sum(piece.cells for piece in self.pieces.values())

    @property
    def done(self) -> int:
        """Cells with a record."""
        return self.before + sum(piece.cells for piece in self.pieces.values() if piece.seconds is not None)

    @property
    def share(self) -> float:
        """The part that is done, those at work included; from 0 to 1."""
        done = self.before + sum(piece.cells * piece.share for piece in self.pieces.values())
        return done / self.total if self.total else 1.0

    @property
    def running(self) -> list[Piece]:
        """What is being measured."""
        return [piece for piece in self.pieces.values() if piece.running]

    def left(self, now: float | None = None) -> float | None:
        """Seconds to the end; None while nothing is known that it could be guessed from.

        What has begun goes on at its own pace; what has not takes as long per cell as others of its claim, or of all.
        """
        now = time.monotonic() if now is None else now
        open_ones = [piece for piece in self.pieces.values() if piece.seconds is None]
        each = [self._left(piece, now) for piece in open_ones]
        known = [seconds for seconds in each if seconds is not None]
        if len(known) < len(each):
            return None
        longest = max((s for s, p in zip(known, open_ones, strict=True) if p.running), default=0.0)
        return max(longest, sum(known) / self.processes)

    def _left(self, piece: Piece, now: float) -> float | None:
        spent = now - piece.begun if piece.begun is not None else 0.0
        if piece.running and piece.share >= LITTLE:
            return spent * (1 - piece.share) / piece.share
        usual = self._usual(piece.claim, now)
        return None if usual is None else max(usual * piece.cells - spent, 0.0)

    def _usual(self, claim: str, now: float) -> float | None:
        """Seconds per cell: of this claim, or else of all."""
        own = [piece for piece in self.pieces.values() if piece.claim == claim]
        return _pace(own, now) or _pace(list(self.pieces.values()), now)

    def __str__(self) -> str:
        """One line."""
        left = self.left()
        ahead = f", about {lasting(left)} left" if left else ""
        work = "; ".join(map(said, self.running))
        return f"{self.done} of {self.total} cells, {self.share:.0%}{ahead}" + (f"; at work: {work}" if work else "")


def said(piece: Piece) -> str:
    """What is measured, and how far it is."""
    return (
        piece.claim
        + (f" ({piece.name})" if piece.name else "")
        + (f" {piece.share:.0%}, {piece.note}" if piece.note else "")
    )


def lasting(seconds: float) -> str:
    """A time in words: 40 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _pace(pieces: Sequence[Piece], now: float) -> float | None:
    """Seconds per cell of those that have ended, or are well begun."""
    known = [
        (p.seconds if p.seconds is not None else now - p.begun, p.cells * p.share)
        for p in pieces
        if p.begun is not None and p.share >= LITTLE
    ]
    cells = sum(c for _, c in known)
    return sum(s for s, _ in known) / cells if cells else None
