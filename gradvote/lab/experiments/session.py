"""From names of claims to findings, page and document."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from gradvote.errors import unknown
from gradvote.lab.experiments.claim import SCALES, Cell, Record, Scale
from gradvote.lab.experiments.claims import claim_named, names
from gradvote.lab.experiments.crew import Crew, Job, Progress
from gradvote.lab.experiments.findings import Finding, exports, write
from gradvote.lab.experiments.records import Store, export, imported
from gradvote.lab.experiments.tuning import assembled
from gradvote.lab.files import check_page
from gradvote.lab.locks import FolderLock

ALL = "all"
_locks: dict[Path, FolderLock] = {}
"""Those of the folders that are being measured into, by folder."""


def catalogue() -> list[tuple[str, str]]:
    """Each claim's name and what it is about, with the data sets it needs."""
    chosen = [(name, claim_named(name)) for name in names()]
    return [(n, f"{c.title}. {c.source}" + (f" (needs {', '.join(c.needs)})" if c.needs else "")) for n, c in chosen]


def expand(wanted: Sequence[str], scale: Scale) -> list[str]:
    """The claims asked for, "all" standing for every one that has this scale.

    Raises:
        ValueError: there is no such claim, or it does not have the scale.
    """
    for name in wanted:
        if name != ALL and name not in names():
            raise unknown("claim", name, [*names(), ALL])
        if name != ALL and scale not in claim_named(name).scales:
            raise ValueError(
                f"The claim {name} has no scale {scale}: it computes, and trains nothing. Use the scale quick or paper."
            )
    chosen = names() if ALL in wanted else list(dict.fromkeys(wanted))
    return [name for name in chosen if scale in claim_named(name).scales]


def scale_named(name: str) -> Scale:
    """The scale of a name. Raises ValueError if there is none."""
    for scale in SCALES:
        if scale == name:
            return scale
    raise unknown("scale", name, SCALES)


def begin(name: str, scale: Scale, folder: Path, fresh: bool, crew: Crew, docs: Path | None = None) -> Job:
    """Have measured what was not measured yet and has no record in `docs`, or with `fresh` all of it.

    Raises:
        ValueError: another process is measuring into that folder, its report.html is not a page of ours, or `docs` has
            no figures.
    """
    if docs is not None and not (docs / "figures").is_dir():
        raise ValueError(f"{docs} has no folder figures with records, as --docs writes it. Give that folder to --from.")
    store = Store(folder / scale / name)
    check_page(folder / "report.html")
    lock = _locks.setdefault(store.folder, FolderLock(store.folder))
    lock.hold()
    if fresh:
        store.forget()
    for record in exported(name, scale, docs).values():
        if store.load(record.cell) is None:
            store.save(record)
    return crew.begin(claim_named(name), scale, store)


def measured(name: str, scale: Scale, folder: Path, docs: Path | None = None) -> Finding | None:
    """What was measured before, of all cells, or stands in `docs`; None if something is missing."""
    if scale not in claim_named(name).scales:
        return None
    here = found(name, scale, Store(folder / scale / name).load)
    return committed(name, scale, docs) if here is None and docs is not None else here


def committed(name: str, scale: Scale, docs: Path) -> Finding | None:
    """The finding of the records that stand in `docs`; None if something is missing."""
    store = exported(name, scale, docs)
    return found(name, scale, lambda cell: store.get(json.dumps(cell, sort_keys=True))) if store else None


def exported(name: str, scale: Scale, docs: Path | None) -> dict[str, Record]:
    """The records that stand in `docs`, by the JSON of their cells; none if there is no such file.

    Raises:
        ValueError: the file is not what `export` wrote.
    """
    file = None if docs is None else exports(name, scale, docs)
    if file is None or not file.is_file():
        return {}
    try:
        return imported(file.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{file} holds no records. Delete it, or take it from the repository again.") from error


def keep_part(name: str, scale: Scale, folder: Path, docs: Path) -> int:
    """Add what was measured of a claim to what stands in `docs`, if there is any of it; returns how many were added.

    What a later version of the claim no longer asks for stays, too: it is not this run's to delete.
    """
    claim, known, store = claim_named(name), exported(name, scale, docs), Store(folder / scale / name)

    def find(cell: Cell) -> Record | None:
        return store.load(cell) or known.get(json.dumps(cell, sort_keys=True))

    records, chosen, _ = assembled(claim, scale, find)
    there = {json.dumps(r.cell, sort_keys=True): r for r in (*chosen, *records)}
    added = len(there.keys() - known.keys())
    if added:
        write(exports(name, scale, docs), export([*(known | there).values()]))
    return added


def found(name: str, scale: Scale, find: Callable[[Cell], Record | None]) -> Finding | None:
    """What follows from records that are there; None if something is missing."""
    claim = claim_named(name)
    records, chosen, whole = assembled(claim, scale, find)
    return Finding(name, claim, scale, records, chosen) if whole else None


def end(name: str, scale: Scale, crew: Crew, job: Job, progress: Progress) -> Finding:
    """Look at all of it.

    Raises:
        DataNotFoundError: the claim's data set is not there.
    """
    try:
        return Finding(name, job.claim, scale, crew.end(job, progress), job.chosen)
    finally:
        if job.store.folder in _locks:
            _locks.pop(job.store.folder).release()
