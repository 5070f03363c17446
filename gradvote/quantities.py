"""Quantities as people write them: 25.6M, 100Mbit, 20ms."""

import re
from typing import NoReturn

PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def count(text: str) -> int:
    """A number such as 25.6M.

    Raises:
        ValueError: it cannot be read.
    """
    value, unit = _split(text, "number of parameters", "25.6M")
    return round(value * PREFIXES[unit]) if unit in PREFIXES else _unreadable(text, "number of parameters", "25.6M")


def bandwidth(text: str) -> float:
    """Bits per second of a rate such as 100Mbit or 10Gbit/s.

    Raises:
        ValueError: it cannot be read.
    """
    value, unit = _split(text, "bandwidth", "100Mbit")
    prefix = re.sub(r"(bit|bps|b)(/s|ps)?$", "", unit)
    return value * PREFIXES[prefix] if prefix in PREFIXES else _unreadable(text, "bandwidth", "100Mbit")


def seconds(text: str) -> float:
    """Seconds of a time such as 20ms or 0.3s.

    Raises:
        ValueError: it cannot be read.
    """
    value, unit = _split(text, "time", "20ms")
    return value * SECONDS[unit] if (unit) in SECONDS else _unreadable(text, "time", "20ms")


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([a-zA-Z/]*)\s*", text)
    if found is None:
        _unreadable(text, what, example)
    return float(found[1]), found[2].lower()


def _unreadable(text: str, what: str, example: str) -> NoReturn:
    raise ValueError(f"The {what} {text!r} cannot be read. Write it like {example}.")
