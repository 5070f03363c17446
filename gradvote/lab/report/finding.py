"""What a scene found, in sentences computed from its runs alone."""

import math
from collections.abc import Sequence

from gradvote.lab.report import format as show
from gradvote.lab.report.records import Run, unique_labels

NEAR = 0.05
"""Within this much of the best test accuracy a run counts as close to it."""
FAR = 0.1
"""At least this much below the best test accuracy a run counts as far behind."""


def finding(runs: Sequence[Run]) -> str:
    """Who is best, who comes close for fewer bytes, who stays behind, who stopped; empty if nothing can be said."""
    labels = unique_labels(runs)
    accuracy = {
        label: value
        for label, run in zip(labels, runs, strict=True)
        if run.status == "finished" and (value := run.final("test_accuracy")) is not None and math.isfinite(value)
    }
    sent = {label: run.total_bytes or math.nan for label, run in zip(labels, runs, strict=True)}
    return " ".join(part for part in (*_ranking(accuracy, sent), _stopped(labels, runs)) if part)


def _ranking(accuracy: dict[str, float], sent: dict[str, float]) -> tuple[str, ...]:
    if not accuracy:
        return ()
    best = max(accuracy, key=lambda label: accuracy[label])
    opening = f"{best} reaches {show.fraction(accuracy[best])} test accuracy."
    return opening, _cheaper(best, accuracy, sent), _behind(best, accuracy)


def _cheaper(best: str, accuracy: dict[str, float], sent: dict[str, float]) -> str:
    """The most accurate of the runs near the best that send at most half of its bytes."""
    near = [x for x in accuracy if accuracy[best] - accuracy[x] <= NEAR and sent[x] * 2 <= sent[best]]
    if not near:
        return ""
    other = max(near, key=lambda label: accuracy[label])
    return f"{other} comes to {show.fraction(accuracy[other])} with {sent[best] / sent[other]:.0f}× fewer bytes."


def _behind(best: str, accuracy: dict[str, float]) -> str:
    far = sorted((x for x in accuracy if accuracy[best] - accuracy[x] >= FAR), key=lambda x: -accuracy[x])
    if len(far) > 3:
        return f"{len(far)} others stay at {show.fraction(accuracy[far[0]])} or below."
    named = show.joined([f"{label} ({show.fraction(accuracy[label])})" for label in far])
    return f"{named} {'stay' if len(far) > 1 else 'stays'} far behind." if far else ""


def _stopped(labels: Sequence[str], runs: Sequence[Run]) -> str:
    ended = [
        f"{label} {show.status(run.status, run.stopped_at)}"
        for label, run in zip(labels, runs, strict=True)
        if run.status in ("diverged", "interrupted")
    ]
    return f"{show.joined(ended)}." if ended else ""
