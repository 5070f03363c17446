"""The tables of `docs/scripts.md`, between its marks, from `results/`."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from case import HERE, METHODS, Case
from diffs import size
from run import TUNE, Results

PAGE = Path("docs/scripts.md")
BEST, SUGGESTED = 1.05, 1.10
NAMES = {"signum": "Signum", "dist_ef_adam": "dist-EF-Adam", "dist_ef_sgdm": "dist-EF-SGDM"}
Row = dict[str, Any]


def write(cases: Sequence[Case]) -> None:
    """Replace what is between the marks."""
    page = HERE.parent.parent / PAGE
    text = page.read_text()
    for mark, lines in {"losses": losses(cases), "costs": costs(cases), "images": images(cases)}.items():
        start, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
        head, rest = text.split(start)
        text = head + start + "\n".join(lines) + "\n" + end + rest.split(end)[1]
    page.write_text(text)


def losses(cases: Sequence[Case]) -> list[str]:
    """Held-out loss, its range over seeds, and the ratio to plain DDP's mean over the same seeds."""
    methods = [f"{NAMES[m]}, {which}" for m in METHODS[1:] for which in ("best rate", "suggested")]
    lines = [f"| script | plain, best rate | {' | '.join(methods)} |", "|---" * (2 + len(methods)) + "|"]
    for case in cases:
        if case.about.get("measure"):
            continue
        results = Results(case.name)
        plain = tested(results, "plain")
        cells = [_cell(results, "plain", best(results, "plain"))]
        for method in METHODS[1:]:
            for factor, bound in ((best(results, method), BEST), (1.0, SUGGESTED)):
                cell, ratio = _cell(results, method, factor), _ratio(results, plain, method, factor)
                cells.append(f"{cell}: {_judged(ratio, bound)}" if cell != "not run" else cell)
        lines.append(f"| {_title(case)} | {' | '.join(cells)} |")
    return lines


def _ratio(results: Results, plain: list[Row], method: str, factor: float) -> float:
    """Against plain's mean over the seeds that both have."""
    rows = tested(results, method, factor)
    seeds = {r["seed"] for r in plain} & {r["seed"] for r in rows}
    if not seeds:  # one of them was run with the choosing seed only
        plain, rows, seeds = at(results, "plain", None), at(results, method, factor), {TUNE}
    ours, theirs = (_mean([r for r in each if r["seed"] in seeds]) for each in (rows, plain))
    return ours / theirs


def costs(cases: Sequence[Case]) -> list[str]:
    """What votes ask of a script, and what they send."""
    lines = [
        "| script | commit | lines added, removed | votes per optimizer step | kB per worker and step: plain, Signum, "
        "dist-EF-Adam | warnings |",
        "|---|---|---|---|---|---|",
    ]
    for case in cases:
        rows = [r for r in Results(case.name).rows if "failed" not in r]
        found = {m: next((r for r in rows if r["method"] == m and any(r["coordinates"])), None) for m in METHODS[1:3]}
        added, removed = size(case.votes)
        kilobytes = [_plain_bytes(found["signum"]), *(_bytes(row) for row in found.values())]
        warnings = sorted({_short(w) for row in found.values() if row for w in row["warnings"]})
        diff = f"[{added}, {removed}](../benchmarks/scripts/{case.name}/gradvote.diff)"
        link = f"[{case.about['commit'][:7]}]({case.about['repository']}/tree/{case.about['commit']})"
        numbers = f"{_per_step(found['signum'])} | {', '.join(kilobytes)}"
        lines.append(f"| {_title(case)} | {link} | {diff} | {numbers} | {'; '.join(warnings) or 'none'} |")
    return lines


def images(cases: Sequence[Case]) -> list[str]:
    """Moments of a generator's samples beside those of plain's."""
    lines = [
        "| | not finite | mean | standard deviation | distance of the moments to digits' | to plain's |",
        "|---" * 6 + "|",
    ]
    for case in (c for c in cases if c.about.get("measure") == "moments"):
        results = Results(case.name)
        reference = [r["moments"] for r in tested(results, "plain") if "moments" in r]
        for method in METHODS:
            chosen = [(best(results, method), "best rate"), (1.0, "suggested")]
            for factor, name in chosen[: 1 if method == "plain" else 2]:
                rows = tested(results, method, factor)
                if rows and reference:
                    own = method == "plain"
                    lines.append(
                        f"| {NAMES.get(method, 'plain')}, {name}, ×{factor:.2g} {_images(rows, reference, own)} |"
                    )
    return lines


def _images(rows: list[Row], reference: list[list[float]], own: bool) -> str:
    """With `own` rows of the reference: how far each is from the mean of its other seeds."""
    good = [r for r in rows if "failed" not in r and math.isfinite(float(r["test"]))]
    if not good:
        return f"| {len(rows)} of {len(rows)} | | | | "
    away = [_away(r["moments"], [m for m in reference if not own or m != r["moments"]]) for r in good]
    values = [[r["mean"] for r in good], [r["std"] for r in good], [r["test"] for r in good], away]
    return f"| {len(rows) - len(good)} of {len(rows)} | " + " | ".join(map(_range, values))


def _away(moments: list[float], reference: list[list[float]]) -> float:
    if not reference:
        return math.nan
    middle = [sum(column) / len(reference) for column in zip(*reference, strict=True)]
    return math.dist(moments, middle) / math.hypot(*middle)


def best(results: Results, method: str) -> float:
    return results.chosen(method) or 1.0


def at(results: Results, method: str, factor: float | None = None) -> list[Row]:
    """All cells at a rate."""
    wanted = f"{factor or best(results, method):.3g}"
    return [r for r in results.rows if r["method"] == method and f"{r['factor']:.3g}" == wanted]


def tested(results: Results, method: str, factor: float | None = None) -> list[Row]:
    """The cells of the other seeds at a rate; where there is none yet, that of the choosing one."""
    rows = at(results, method, factor)
    return [r for r in rows if r["seed"] != TUNE] or rows


def _mean(rows: list[Row]) -> float:
    values = [float(r.get("test", math.nan)) for r in rows]
    return sum(values) / len(values) if values else math.nan


def _cell(results: Results, method: str, factor: float) -> str:
    rows = tested(results, method, factor)
    if not rows:
        return "not run"
    tried = [r["factor"] for r in results.rows if r["method"] == method and r["seed"] == TUNE]
    edge = "*" if factor == best(results, method) and factor in (min(tried), max(tried)) else ""
    few = "†" if [r["seed"] for r in rows] == [TUNE] else f", n={len(rows)}"
    return f"{_range([float(r.get('test', math.nan)) for r in rows])} (×{factor:.2g}{edge}{few})"


def _range(values: list[float]) -> str:
    middle = sum(values) / len(values)
    return f"{middle:.3g} [{min(values):.3g}, {max(values):.3g}]" if len(values) > 1 else f"{middle:.3g}"


def _judged(ratio: float, bound: float) -> str:
    text = f"{100 * (ratio - 1):+.1f} %"
    return text if ratio <= bound else f"**{text}**"


def _title(case: Case) -> str:
    return str(case.about["title"])


def _per_step(row: Row | None) -> str:
    return ", ".join(f"{v / max(row['optimizer_steps']):.3g}" for v in row["votes"]) if row else "not run"


def _bytes(row: Row | None) -> str:
    return _kilobytes(sum(row["bytes_sent"]) / max(row["optimizer_steps"])) if row else "not run"


def _plain_bytes(row: Row | None) -> str:
    """A ring all-reduce of two ranks sends 4 bytes per coordinate, as often as a vote was asked for."""
    if not row:
        return "not run"
    sent = sum(4 * d * v for d, v in zip(row["coordinates"], row["votes"], strict=True))
    return _kilobytes(sent / max(row["optimizer_steps"]))


def _kilobytes(count: float) -> str:
    return f"{count / 1000:.0f}" if count > 1e5 else f"{count / 1000:.3g}"


def _short(warning: str) -> str:
    """Its first words; Trainers' own begin with the name of a setting."""
    return re.split(r"[:;,]|\. ", warning.replace("TrainingArguments.", ""))[0]
