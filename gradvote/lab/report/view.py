"""What the template shows of a scene: every number already text, every chart already drawn."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradvote.lab.report import format as show
from gradvote.lab.report.classes import class_histogram
from gradvote.lab.report.columns import COLUMNS, Column, status
from gradvote.lab.report.finding import finding
from gradvote.lab.report.plots import METRICS, Against, accuracy_against_bytes, curves
from gradvote.lab.report.records import Counts, Run, Scene, unique_labels
from gradvote.lab.report.style import Style
from gradvote.lab.report.svg import to_svg

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Cell:
    """One figure in the table; `share` of 1 is drawn as a bar beneath it."""

    text: str
    best: bool
    share: float | None


@dataclass(frozen=True)
class Download:
    """A file inside the page: its name, what it holds, and a data address."""

    name: str
    size: str
    address: str


@dataclass(frozen=True)
class Row:
    """One run: its line in the table and its recipe."""

    label: str
    style: Style
    state: str
    status: str
    cells: tuple[Cell, ...]
    recipe: tuple[tuple[str, str], ...]
    downloads: tuple[Download, ...]


@dataclass(frozen=True)
class Picture:
    """A chart and what is said beneath it."""

    svg: Markup
    caption: str = ""


@dataclass(frozen=True)
class SceneView:
    """A scene, ready for the template."""

    number: int
    title: str
    text: str
    finding: str
    rows: tuple[Row, ...]
    steps: tuple[Picture, ...]
    bytes: tuple[Picture, ...]
    more: tuple[Picture, ...]
    notes: tuple[str, ...]


def scene_view(scene: Scene, number: int, look: Mapping[str, Style]) -> SceneView:
    """Everything of scene `number`; `look` gives each label the style it has throughout the report."""
    labels, prefix = unique_labels(scene.runs), f"f{number}"
    return SceneView(
        number,
        scene.title,
        scene.text,
        finding(scene.runs),
        _rows(scene.runs, labels, look),
        _charts(scene.runs, "steps", look, prefix),
        _charts(scene.runs, "bytes", look, prefix),
        _scatter(scene.runs, look, prefix) + _data(scene.runs, labels, prefix),
        _notes(scene.runs, labels),
    )


def facts(runs: Sequence[Run]) -> list[str]:
    """What holds for the report as a whole: how many runs, of how many workers and parameters, on which machine."""
    workers = sorted({run.num_workers for run in runs if run.num_workers})
    parameters = sorted({run.num_parameters for run in runs if run.num_parameters})
    said = [f"{len(runs)} run{'s' if len(runs) > 1 else ''}"]
    if workers:
        said.append(f"{show.joined([show.count(n) for n in workers])} workers")
    if parameters:
        said.append(f"{show.joined([show.count(n) for n in parameters])} parameters")
    return said + sorted({run.hardware for run in runs if run.hardware})


def _rows(runs: Sequence[Run], labels: Sequence[str], look: Mapping[str, Style]) -> tuple[Row, ...]:
    best = [column.best_runs(runs) for column in COLUMNS]
    return tuple(
        Row(
            label,
            look[label],
            run.status,
            status(run),
            tuple(_cell(column, run, i in winners) for column, winners in zip(COLUMNS, best, strict=True)),
            _recipe(run),
            _downloads(run),
        )
        for i, (label, run) in enumerate(zip(labels, runs, strict=True))
    )


def _cell(column: Column, run: Run, best: bool) -> Cell:
    value = column.value(run)
    share = min(max(value, 0.0), 1.0) if column.share and value is not None and math.isfinite(value) else None
    return Cell(column.text(run), best, share)


def _recipe(run: Run) -> tuple[tuple[str, str], ...]:
    """What one needs to run it again, and what was said about it; empty entries are left out."""
    options = ", ".join(f"{key}={value}" for key, value in run.config.items())
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    blocks = ", ".join(f"{i}: {show.count(n)}" for i, n in enumerate(run.abstentions_by_worker) if n)
    entries = (
        ("Algorithm", run.algorithm),
        ("Command", run.command),
        ("Seed", "" if run.seed is None else str(run.seed)),
        ("Options", options),
        ("Faults", run.faults),
        ("Message", run.message),
        ("Abstained blocks by worker", blocks),
        ("Versions", versions),
        ("Hardware", run.hardware),
    )
    return tuple((name, text) for name, text in entries if text)


def _downloads(run: Run) -> tuple[Download, ...]:
    stem = _UNSAFE.sub("-", run.name).strip("-.") or "run"
    return (
        _download(f"{stem}.records.jsonl", "application/x-ndjson", run.raw_records),
        _download(f"{stem}.run.json", "application/json", run.raw_run),
    )


def _download(name: str, kind: str, text: str) -> Download:
    raw = text.encode()
    return Download(name, show.size(len(raw)), f"data:{kind};base64,{base64.b64encode(raw).decode()}")


def _charts(runs: Sequence[Run], against: Against, look: Mapping[str, Style], prefix: str) -> tuple[Picture, ...]:
    return tuple(
        _picture(to_svg(curves(runs, m, against, look), f"{prefix}-{against}-{m.key}", f"{m.title} against {against}"))
        for m in METRICS
    )


def _scatter(runs: Sequence[Run], look: Mapping[str, Style], prefix: str) -> tuple[Picture, ...]:
    """Nothing for a single run: there is nothing to compare."""
    if len(runs) < 2:
        return ()
    return (_picture(to_svg(accuracy_against_bytes(runs, look), f"{prefix}-scatter", "Accuracy against bytes")),)


def _picture(svg: str, caption: str = "") -> Picture:
    """Markup is right here: the SVG is an XML tree of our own making, written by an escaping serialiser."""
    return Picture(Markup(svg), caption)


def _data(runs: Sequence[Run], labels: Sequence[str], prefix: str) -> tuple[Picture, ...]:
    """One picture for each different split; the caption says whose, where there are several."""
    holders: dict[tuple[Counts, tuple[str, ...]], list[str]] = {}
    for label, run in zip(labels, runs, strict=True):
        if run.class_histogram:
            holders.setdefault((run.class_histogram, run.class_names), []).append(label)
    return tuple(
        _picture(
            to_svg(class_histogram(counts, names), f"{prefix}-data-{i}", "Samples of each class by worker"),
            show.joined(who) if len(holders) > 1 else "",
        )
        for i, ((counts, names), who) in enumerate(holders.items())
    )


def _notes(runs: Sequence[Run], labels: Sequence[str]) -> tuple[str, ...]:
    """Faults, drift and messages: what a reader must know before believing the table."""
    notes: dict[str, list[str]] = {}
    for label, run in zip(labels, runs, strict=True):
        drift = run.largest("drift") or 0.0
        said = (
            f"Faults: {run.faults}." if run.faults else "",
            f"The workers' models drifted apart by up to {show.scientific(drift)}." if drift > 0 else "",
            run.message,
        )
        for note in filter(None, said):
            notes.setdefault(note, []).append(label)
    everyone = len(labels)
    return tuple(note if len(who) == everyone > 1 else f"{show.joined(who)}: {note}" for note, who in notes.items())
