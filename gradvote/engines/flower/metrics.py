"""Metrics of clients: numbers only, those that are finite; one client's nonsense spoils no mean."""

import math
from collections.abc import Mapping
from logging import WARNING

from flwr.app import RecordDict
from flwr.common.logger import log

Numbers = dict[str, float]
LONGEST = 300
"""Characters of a client's own words that are kept."""


def numbers(content: RecordDict) -> Numbers:
    """The finite numbers in the metrics of a reply."""
    found: Numbers = {}
    for record in content.metric_records.values():
        for name, value in record.items():
            if isinstance(value, int | float) and math.isfinite(value):
                found[name] = float(value)
    return found


def weight(own: Mapping[str, float], key: str) -> float:
    """How many examples a client says it has; 0 where it says nothing that can be right."""
    return max(0.0, own.get(key, 0.0))


def mean(by_worker: Mapping[int, Numbers], key: str) -> Numbers:
    """The mean of each metric over who gave it, weighted by `key` where all of these have it."""
    names = sorted({name for own in by_worker.values() for name in own} - {key})
    found: Numbers = {}
    for name in names:
        having = [own for own in by_worker.values() if name in own]
        weights = [weight(own, key) for own in having]
        shares = weights if all(weights) else [1.0] * len(having)
        found[name] = sum(share * own[name] for share, own in zip(shares, having, strict=True)) / sum(shares)
    return found


def beside(own: Numbers, counts: Mapping[str, int]) -> dict[str, float | int]:
    """The clients' means, and the round's counts; a client's metric of such a name is told, and not shown."""
    for name in sorted(own.keys() & counts.keys()):
        log(WARNING, "The clients' metric %r is not shown: the round's own count has that name. Rename it.", name)
    return {**own, **counts}


def last_line(reason: str | None) -> str:
    """The last line of an error's text, which says what happened; the lines before are where."""
    lines = [line.strip() for line in (reason or "no reason given").splitlines() if line.strip()]
    return lines[-1][:LONGEST] if lines else "no reason given"
