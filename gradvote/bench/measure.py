"""A case checked and timed against its rival, and how its time grows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from gradvote.bench.cases import Case
from gradvote.bench.timing import SHORTEST, Bandwidth, interleaved, once

LINEAR_FROM = 1_000_000
"""Sizes from which on the exponent of d is fitted."""


class WrongResultError(RuntimeError):
    """A kernel's result differs from its definition: no speed is shown."""


@dataclass(frozen=True)
class Measurement:
    """Seconds per call, as measured in turn, of ours and of the rival (None where it was not run).

    `memory_seconds` is the time of the least traffic, `target` the ratio that issue 3 asks for; `part` is "table",
    "sizes" or "workers".
    """

    part: str
    operation: str
    variant: int | str
    d: int
    seconds: list[float]
    rival: str | None
    rival_seconds: list[float] | None
    memory_seconds: float
    target: float | None

    @property
    def time(self) -> float:
        """The median of ours."""
        return median(self.seconds)

    @property
    def rival_time(self) -> float | None:
        """The median of the rival's."""
        return median(self.rival_seconds) if self.rival_seconds else None

    @property
    def speedup(self) -> float | None:
        """How many times as fast as the rival."""
        return self.rival_time / self.time if self.rival_time else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the figures that follow from the seconds."""
        return {**asdict(self), "time": self.time, "rival_time": self.rival_time, "speedup": self.speedup}


def measure(
    case: Case, part: str, speed: Bandwidth, with_rival: bool = True, shortest: float = SHORTEST
) -> Measurement:
    """Checks a case, then times it in turn with the fastest of its rivals, each time for `shortest` seconds or more.

    Raises:
        WrongResultError: the result differs from the definition.
    """
    if not case.check():
        raise WrongResultError(f"{case.operation} {case.variant} at d = {case.d:,} differs from its definition.")
    rival = _fastest(case.rivals) if with_rival else None
    seconds = interleaved({"ours": case.ours} | ({"rival": case.rivals[rival]} if rival else {}), shortest)
    return Measurement(
        part=part,
        operation=case.operation,
        variant=case.variant,
        d=case.d,
        seconds=seconds["ours"],
        rival=rival,
        rival_seconds=seconds.get("rival"),
        memory_seconds=speed.seconds(case.bytes_read, case.bytes_written),
        target=case.target if part == "table" else None,
    )


def exponents(found: Sequence[Measurement]) -> dict[str, float]:
    """The e of time ~ d^e of each operation over the large sizes, by least squares of the logarithms."""
    fitted = {}
    for operation in dict.fromkeys(m.operation for m in found):
        rows = [m for m in found if m.part == "sizes" and m.operation == operation and m.d >= LINEAR_FROM]
        if len(rows) > 1:
            slope = np.polyfit([math.log(m.d) for m in rows], [math.log(m.time) for m in rows], 1)[0]
            fitted[operation] = float(slope)
    return fitted


def _fastest(others: dict[str, Callable[[], Any]]) -> str:
    if len(others) == 1:
        return next(iter(others))
    seconds = {name: once(call) for name, call in others.items()}
    return min(seconds, key=lambda name: seconds[name])
