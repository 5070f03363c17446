"""A case checked and timed against its rival, and how its time grows."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from gradvote.lab.bench.cases import Case
from gradvote.lab.bench.timing import SHORTEST, Bandwidth, interleaved, once

LEAST_SIZES = 4
"""Sizes from which on a line says something."""


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


@dataclass(frozen=True)
class Growth:
    """Time = `start` + d · `per_coordinate` (seconds); no measured time is `factor` times off."""

    start: float
    per_coordinate: float
    factor: float


def growth(found: Sequence[Measurement]) -> dict[str, Growth]:
    """The line of each operation over all sizes, by least squares of the relative errors."""
    fitted = {}
    for operation in dict.fromkeys(m.operation for m in found):
        rows = [m for m in found if m.part == "sizes" and m.operation == operation]
        if len({m.d for m in rows}) >= LEAST_SIZES:
            fitted[operation] = _line([m.d for m in rows], [m.time for m in rows])
    return fitted


def _line(sizes: Sequence[int], times: Sequence[float]) -> Growth:
    d, t = np.array(sizes, dtype=float), np.array(times)
    start, slope = np.linalg.lstsq(np.stack([1 / t, d / t], 1), np.ones(len(t)), rcond=None)[0]
    if start < 0:
        start, slope = 0.0, float((d / t).sum() / ((d / t) ** 2).sum())
    ratio = (start + d * slope) / t
    return Growth(float(start), float(slope), float(np.maximum(ratio, 1 / ratio).max()))


def _fastest(others: dict[str, Callable[[], Any]]) -> str:
    if len(others) == 1:
        return next(iter(others))
    seconds = {name: once(call) for name, call in others.items()}
    return min(seconds, key=lambda name: seconds[name])
