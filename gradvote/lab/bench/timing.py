"""How long calls take: medians of interleaved repetitions, and the bandwidth of memory in the same process."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

REPETITIONS = 7
SLOW = 3
"""Repetitions of calls of more than `SLOW_SECONDS`."""
SLOW_SECONDS = 4.0
SHORTEST = 0.1
"""Seconds that one measurement takes at least: shorter calls are repeated. As much of them goes untimed before it:
while a slow rival ran, the system may have taken pages back, and the other core slept. What fits a cache is in it."""


@dataclass(frozen=True)
class Bandwidth:
    """Seconds per byte read (a sum) and written (a copy, less its reading) in main memory."""

    read: float
    write: float

    def seconds(self, bytes_read: int, bytes_written: int) -> float:
        """The least time that this traffic takes where nothing is in a cache."""
        return bytes_read * self.read + bytes_written * self.write


def interleaved(calls: Mapping[str, Callable[[], object]], shortest: float = SHORTEST) -> dict[str, list[float]]:
    """Seconds per call of each, in turn, so that a disturbance meets them all; `shortest` as `SHORTEST`."""
    first = {name: once(call) for name, call in calls.items()}
    inner = {name: max(1, round(shortest / max(seconds, 1e-7))) for name, seconds in first.items()}
    repetitions = SLOW if max(first.values()) > SLOW_SECONDS else REPETITIONS
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            if first[name] < 4 * shortest:
                _mean(call, inner[name])
            seconds[name].append(_mean(call, inner[name]))
    return seconds


def bandwidth(num_bytes: int = 1 << 28) -> Bandwidth:
    """Measured with torch's own sum and copy and its threads."""
    source = torch.ones(num_bytes // 4)
    target = torch.empty_like(source)
    seconds = interleaved({"sum": source.sum, "copy": lambda: target.copy_(source)})
    read, copy = (median(seconds[name]) for name in ("sum", "copy"))
    return Bandwidth(read / num_bytes, max(copy - read, 0.0) / num_bytes)


def free_bytes() -> int | None:
    """Memory that can still be had, where the system says."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("MemAvailable")), None)


def processor() -> str:
    """The processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def machine() -> dict[str, object]:
    """What a figure depends on: processor, cores, threads, system."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }


def once(call: Callable[[], object]) -> float:
    """Seconds of a second call."""
    call()
    return _mean(call, 1)


def _mean(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times
