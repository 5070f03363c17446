"""From names of claims to findings, page and document."""

from collections.abc import Sequence
from pathlib import Path

from gradvote.errors import unknown
from gradvote.experiments.claim import SCALES, Scale
from gradvote.experiments.claims import claim_named, names
from gradvote.experiments.findings import Finding
from gradvote.experiments.records import Progress, Store, measure

ALL = "all"


def catalogue() -> list[tuple[str, str]]:
    """Each claim's name and what it is about, with the data sets it needs."""
    chosen = [(name, claim_named(name)) for name in names()]
    return [(n, f"{c.title}. {c.source}" + (f" (needs {', '.join(c.needs)})" if c.needs else "")) for n, c in chosen]


def expand(wanted: Sequence[str]) -> list[str]:
    """The claims asked for, "all" standing for every one.

    Raises:
        ValueError: there is no such claim.
    """
    for name in wanted:
        if name != ALL and name not in names():
            raise unknown("claim", name, [*names(), ALL])
    return names() if ALL in wanted else list(dict.fromkeys(wanted))


def scale_named(name: str) -> Scale:
    """The scale of a name. Raises ValueError if there is none."""
    for scale in SCALES:
        if scale == name:
            return scale
    raise unknown("scale", name, SCALES)


def find(name: str, scale: Scale, folder: Path, fresh: bool, progress: Progress, processes: int = 1) -> Finding:
    """Measure what was not measured yet, and look at all of it.

    Raises:
        DataNotFoundError: the claim's data set is not there.
    """
    claim, store = claim_named(name), Store(folder / scale / name)
    if fresh:
        store.forget()
    return Finding(name, claim, scale, measure(claim, scale, store, progress, processes))
