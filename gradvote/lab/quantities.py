"""Quantities as people write them: 25.6M, 7B, 100Mbit, 20ms."""

import re
from fractions import Fraction
from typing import NoReturn

MOST, LONGEST = 1e18, 40
"""The largest number before its unit, and the longest text that is read."""
PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "bn": 10**9, "t": 10**12}
"""7B: a billion is 10⁹ to those who count parameters."""
SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def count(text: str) -> int:
    """A whole number such as 25.6M or 7B.

    Raises:
        ValueError: it cannot be read, or is not whole.
    """
    value, unit = _split(text, "number of parameters", "25.6M")
    factor = COUNTS.get(unit)
    if factor is None:
        _unreadable(text, "number of parameters", "25.6M")
    exact = value * factor
    if exact % 1:
        raise ValueError(f"The number of parameters {text!r} is not a whole number. Write it like 25.6M.")
    return int(exact)


def bandwidth(text: str) -> float:
    """Bits per second of a rate such as 100Mbit or 10Gbit/s; a capital B alone is bytes, as in 12.5MB/s.

    Raises:
        ValueError: it cannot be read.
    """
    value, unit = _split(text, "bandwidth", "100Mbit")
    prefix = re.sub(r"(bit|bps|b)(/s|ps)?$", "", unit)
    bits = 8 if re.search(r"B(/[sS]|ps)?\s*$", text) else 1
    return float(value) * bits * PREFIXES[prefix] if prefix in PREFIXES else _unreadable(text, "bandwidth", "100Mbit")


def rate(bits: float) -> str:
    """Bits per second, as people write them: 100 Mbit/s."""
    factor, prefix = next((f, p) for f, p in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (0.0, "")) if bits >= f)
    return f"{bits / (factor or 1):.4g} {prefix}bit/s"


def seconds(text: str) -> float:
    """Seconds of a time such as 20ms or 0.3s.

    Raises:
        ValueError: it cannot be read.
    """
    value, unit = _split(text, "time", "20ms")
    return float(value) * SECONDS[unit] if unit in SECONDS else _unreadable(text, "time", "20ms")


def _split(text: str, what: str, example: str) -> tuple[Fraction, str]:
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+|[0-9]+\.)(e[+-]?[0-9]{1,3})?\s*([a-zA-Z/]*)\s*", text, re.ASCII)
    if found is None or len(text) > LONGEST:
        _unreadable(text, what, example)
    value = Fraction(found[1]) * Fraction(10) ** int((found[2] or "e0")[1:])
    if value > MOST:
        raise ValueError(f"The {what} {text!r} is beyond all measure; at most {MOST:g} is expected, like {example}.")
    return value, found[3].lower()


def _unreadable(text: str, what: str, example: str) -> NoReturn:
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    raise ValueError(f"The {what} {shown!r} cannot be read. Write it like {example}.")
