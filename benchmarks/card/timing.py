"""Times of work on a card: CUDA events, medians, and inputs that no cache still holds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

REPEATS = 50
WORKING_SET = 512 << 20
"""Bytes that calls in turn touch in all, ten times the cache of the largest card today."""
HEAD_START = 40_000_000
"""Cycles that the card is busy before a series, so that it never waits for Python to ask for the next call."""


@dataclass(frozen=True)
class Time:
    """Seconds of the card for a call (median), and of the processor that asks for it."""

    card: float
    host: float


def time_of(call: Callable[[Any], object], inputs: Sequence[Any], repeats: int = REPEATS) -> Time:
    """The time of `call` on inputs in turn."""
    for own in (*inputs, *inputs):
        call(own)
    torch.cuda.synchronize()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    torch.cuda._sleep(HEAD_START)
    start = time.perf_counter()
    for i, (before, after) in enumerate(events):
        before.record()
        call(inputs[i % len(inputs)])
        after.record()
    host = (time.perf_counter() - start) / repeats
    torch.cuda.synchronize()
    return Time(median(before.elapsed_time(after) for before, after in events) / 1e3, host)


def copies(make: Callable[[int], Any], num_bytes: int) -> list[Any]:
    """So many inputs `make(i)` of `num_bytes` each that they fill the working set, and two at least."""
    return [make(i) for i in range(max(2, -(-WORKING_SET // max(num_bytes, 1))))]


def copy_bandwidth() -> float:
    """Bytes per second of a copy from one place on the card to another, read and written ones."""
    a, b = (
        torch.empty(1 << 29, dtype=torch.uint8, device="cuda"),
        torch.empty(1 << 29, dtype=torch.uint8, device="cuda"),
    )
    a.random_()
    return 2 * a.numel() / time_of(lambda _: b.copy_(a), [None]).card


def empty_call() -> Time:
    """A call that does nothing: what two events around it cost."""
    return time_of(lambda _: None, [None])
