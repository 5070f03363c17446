"""The report's figures: four measures against steps or bytes, accuracy against bytes, and each worker's data."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gradvote.errors import MissingExtra
from gradvote.lab.report import format as show
from gradvote.lab.report.records import Record, Run, total_bytes, unique_labels
from gradvote.lab.report.style import LIGHT, Style, styles

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradvote.lab.report.axes import EndLabel, frame, margin_labels, set_scale
except ImportError as error:
    raise MissingExtra("matplotlib", "report") from error

Against = Literal["steps", "bytes"]
CUT = 100.0
"""A curve that rises above this many times the typical run's largest value leaves the picture at the top."""
_HUGE, _TINY = 1e100, 1e-100


@dataclass(frozen=True)
class Metric:
    """A measured quantity: its key in the records, its heading, and whether it is a share of 1."""

    key: str
    title: str
    subtitle: str
    share: bool = False


METRICS = (
    Metric("test_accuracy", "Test accuracy", "share of the test set classified rightly", share=True),
    Metric("loss", "Training loss", "mean over all workers' data"),
    Metric("grad_norm", "True gradient norm", "of the mean objective; 0 is a stationary point"),
    Metric("median_mean_gap", "Median–mean gap", "between the workers' gradients; a median goes wrong by this"),
)


@dataclass(frozen=True)
class Curve:
    """The points of one run up to the first that cannot be drawn; `lost` if there is one, or the run diverged."""

    label: str
    style: Style
    x: tuple[float, ...]
    y: tuple[float, ...]
    lost: bool


def curves(runs: Sequence[Run], metric: Metric, against: Against, look: Mapping[str, Style] | None = None) -> Figure:
    """`metric` of every run against its steps, or against the bytes (up and down, all workers) it had sent by then.

    `look` gives each label its style, to keep it from figure to figure; by default the palette in order.
    """
    drawn = _curves(runs, metric, against, look or styles(unique_labels(runs)))
    ys = [curve.y for curve in drawn]
    log = not metric.share and _fits_log([y for values in ys for y in values])
    subtitle = metric.subtitle + (" · log scale" if log else "")
    figure, axes = frame(metric.title, subtitle, [_name(curve) for curve in drawn])
    if not drawn:
        return _empty(figure, axes)
    low, high = (-0.02, 1.03) if metric.share else _limits(ys, log)
    set_scale(axes, "y", log, low, high)
    _set_x(axes, [x for curve in drawn for x in curve.x], [curve.x[-1] for curve in drawn], against)
    margin_labels(axes, [_draw(axes, curve, log, low, high) for curve in drawn])
    return figure


def accuracy_against_bytes(runs: Sequence[Run], look: Mapping[str, Style] | None = None) -> Figure:
    """The last test accuracy of every run against all the bytes it sent: up and left is better."""
    labels = unique_labels(runs)
    look = look or styles(labels)
    points = [
        (label, total, accuracy)
        for label, run in zip(labels, runs, strict=True)
        if (total := run.total_bytes) and (accuracy := run.final("test_accuracy")) is not None
        if math.isfinite(total) and math.isfinite(accuracy)
    ]
    figure, axes = frame(
        "Accuracy for the bytes", "last test accuracy against all that was sent", [p[0] for p in points]
    )
    if not points:
        return _empty(figure, axes)
    set_scale(axes, "y", False, -0.02, 1.03)
    sent = [total / 1e6 for _, total, _ in points]
    _set_x(axes, [min(sent) / 1.6e-6, max(sent) * 1.6e6], [1, 10], "bytes")
    for label, total, accuracy in points:
        _mark(axes, total / 1e6, accuracy, look[label], size=9)
    margin_labels(axes, [EndLabel(p[0], p[1] / 1e6, p[2], look[p[0]]) for p in points])
    return figure


def _curves(runs: Sequence[Run], metric: Metric, against: Against, look: Mapping[str, Style]) -> list[Curve]:
    found = []
    for label, run in zip(unique_labels(runs), runs, strict=True):
        points = [(x, _y(r[metric.key])) for r in run.records if metric.key in r and (x := _x(r, against)) is not None]
        end = next((i for i, point in enumerate(points) if not math.isfinite(point[1])), len(points))
        if end:
            xs, ys = zip(*points[:end], strict=True)
            found.append(Curve(label, look[label], xs, ys, lost=end < len(points) or run.status == "diverged"))
    return found


def _x(record: Record, against: Against) -> float | None:
    """Steps, or bytes; bytes are drawn on a log scale, where the start (nothing sent) has no place."""
    if against == "steps":
        return record["step"]
    sent = total_bytes(record)
    return sent if sent and math.isfinite(sent) else None


def _y(value: float) -> float:
    """NaN where a value is too large for any axis, zero where it is too small for one."""
    if not abs(value) < _HUGE:
        return math.nan
    return value if abs(value) > _TINY else 0.0


def _fits_log(values: Sequence[float]) -> bool:
    """Nearly all positive, and over more than a factor of 20."""
    positive = [v for v in values if v > 0]
    return len(positive) > 0.95 * len(values) and max(positive) > 20 * min(positive)


def _limits(ys: Sequence[Sequence[float]], log: bool) -> tuple[float, float]:
    """The range of all values, less what runs far above the typical run's largest value."""
    top = CUT * statistics.median_low(max(values) for values in ys)
    kept = [v for values in ys for v in values if (v <= top or top <= 0) and (v > 0 or not log)]
    low, high = min(kept), max(kept)
    if log:
        return low / 1.3, high * 1.3
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (0.0 if 0 <= low < 0.5 * high else low - margin), high + margin


def _set_x(axes: Axes, values: Sequence[float], ends: Sequence[float], against: Against) -> None:
    low, high = min(values), max(values)
    if against == "steps":
        set_scale(axes, "x", False, min(low, 0), high if high > min(low, 0) else 1)
        axes.set_xlabel("steps", color=LIGHT["muted"], size=13)
        return
    low, high = low / 1e6, high / 1e6
    log = high > 5 * low and max(ends) > 3 * min(ends)
    if high == low:
        low, high = 0, high * 1.2
    set_scale(axes, "x", log, low if log else 0, high)
    axes.set_xlabel("MB sent, all workers up and down" + (" (log scale)" if log else ""), color=LIGHT["muted"], size=13)


def _draw(axes: Axes, curve: Curve, log: bool, low: float, high: float) -> EndLabel:
    """The line and the marker at its end: a cross where the run was lost, at the edge if the picture lost it."""
    scale = 1.0 if axes.get_xlabel() == "steps" else 1e-6
    last = len(curve.y) - 1
    while last and curve.y[last] > high and curve.y[last - 1] > high:
        last -= 1
    x = [value * scale for value in curve.x[: last + 1]]
    y = [min(value, high) if value > 0 or not log else math.nan for value in curve.y[: last + 1]]
    axes.plot(
        x,
        y,
        color=curve.style.color,
        linewidth=2,
        linestyle=curve.style.dash,
        solid_capstyle="round",
        solid_joinstyle="round",
        gid=f"series-{curve.style.place}-line",
    )
    end = max(y[last], low) if math.isfinite(y[last]) else low
    _mark(axes, x[last], end, curve.style, size=7, lost=curve.lost)
    return EndLabel(_name(curve), x[last], end, curve.style)


def _mark(axes: Axes, x: float, y: float, style: Style, *, size: float, lost: bool = False) -> None:
    axes.plot(
        [x],
        [y],
        linestyle="none",
        marker="x" if lost else style.marker,
        color=style.color,
        markerfacecolor="none" if style.hollow else style.color,
        markersize=size + 3 if lost else size,
        markeredgewidth=2.5 if lost else 1.5,
        clip_on=False,
        zorder=4,
        gid=f"series-{style.place}-end",
    )


def _name(curve: Curve) -> str:
    return f"{show.shortened(curve.label, 14)} diverged" if curve.lost else curve.label


def _empty(figure: Figure, axes: Axes) -> Figure:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=LIGHT["muted"], size=13)
    return figure
