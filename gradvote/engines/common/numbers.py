"""Numbers and keys that engines are given: one sentence where they are none, before anything is built."""

import math
from collections.abc import Sequence
from typing import Any, SupportsFloat, SupportsIndex

from gradvote.engines.common.arguments import in_words

SEEDS = 2**63
SHORTEST = 16
"""Bytes of a secret key: fewer can be tried out one by one."""


def check_whole(name: str, given: Any, least: int, what: str) -> None:
    """Raise TypeError or ValueError for what is no whole number, or below the `least`; `what` says what it is."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{name} is {what}, a whole number from {least} on; got {given!r}.")
    if given < least:
        raise ValueError(f"{name} is {what}, at least {least}; got {given}.")


def round_of(step: Any, lr: Any) -> tuple[int, float | list[float]]:
    """A round's number and its rate or rates, also those that numpy or torch have worked out, as plain numbers.

    Raises:
        TypeError, ValueError: they are none.
    """
    if not isinstance(step, SupportsIndex) or step.__index__() < 0:
        raise ValueError(f"step is the number of this round, a whole number from 0 on; got {step!r}.")
    several = isinstance(lr, Sequence) and not isinstance(lr, str)
    rates = [*lr] if several else [lr]
    for rate in rates:
        if not isinstance(rate, SupportsFloat):
            raise TypeError(f"lr is the learning rate of this round, a number or one for each parameter; got {lr!r}.")
        if not math.isfinite(rate):
            raise ValueError(f"lr is the learning rate of this round, which is finite; got {lr!r}.")
    found = [float(rate) for rate in rates]
    return step.__index__(), found if several else found[0]


def check_seed(seed: Any) -> None:
    """Raise TypeError or ValueError for what is no seed: larger ones would be taken for smaller ones."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed is a whole number, the same on all workers; got {seed!r}.")
    if not 0 <= seed < SEEDS:
        raise ValueError(f"The seed must be at least 0 and below 2**63; got {seed}.")


def check_secret(secret: Any) -> None:
    """Raise TypeError or ValueError for a key of private draws that is none."""
    if secret is None:
        return
    if not isinstance(secret, bytes):
        raise TypeError(f"secret= takes bytes, such as os.urandom(32), each worker its own; got {in_words(secret)}.")
    if len(secret) < SHORTEST:
        raise ValueError(
            f"secret= has {len(secret)} bytes, which can be guessed; give {SHORTEST} or more, such as os.urandom(32), "
            "or None for draws that the seed gives and nobody is to be protected by."
        )


def check_seconds(name: str, given: Any) -> None:
    """Raise TypeError or ValueError for what is no time to wait."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{name} is a time in seconds; got {given!r}.")
    if not 0 < given < math.inf:
        raise ValueError(f"{name} is a time in seconds, positive and finite; got {given}.")
