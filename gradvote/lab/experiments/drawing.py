"""Pictures of records: lines with bands of uncertainty, in the report's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradvote.lab.report.axes import WIDTH, EndLabel, frame, margin_labels, set_scale
from gradvote.lab.report.style import LIGHT, LIGHT_SERIES, Style, styles


@dataclass(frozen=True)
class Series:
    """Points of one name; `low` and `high` bound their 95 % intervals. `guide`: a thin dashed line without marks."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    guide: bool = False


def plot(
    title: str,
    subtitle: str,
    series: Sequence[Series],
    *,
    x_label: str,
    log_x: bool = False,
    log_y: bool = False,
    y_limits: tuple[float, float] | None = None,
    height: int = 380,
) -> Figure:
    """All series in one picture, their names in the right margin; the vertical axis is what the subtitle says."""
    figure, axes = frame(title, subtitle, [s.label for s in series], height)
    look = styles(s.label for s in series)
    xs = [x for s in series for x in s.x]
    set_scale(axes, "x", log_x, *_range(xs, log_x))
    set_scale(axes, "y", log_y, *(y_limits or _range([v for s in series for v in _extent(s)], log_y)))
    axes.set_xlabel(x_label, color=LIGHT["muted"], size=13)
    for s in series:
        _draw(axes, s, look[s.label])
    margin_labels(axes, [_end(axes, s, look[s.label]) for s in series])
    return figure


def _draw(axes: Axes, s: Series, style: Style) -> None:
    if s.guide:
        axes.plot(s.x, s.y, color=style.color, linewidth=1, linestyle=(0, (4, 3)))
        return
    if s.low is not None and s.high is not None:
        axes.fill_between(s.x, s.low, s.high, color=style.color, alpha=0.15, linewidth=0)
    few = len(s.x) <= 25
    axes.plot(s.x, s.y, color=style.color, linewidth=1.8, marker=style.marker if few else None, markersize=5)


def _end(axes: Axes, s: Series, style: Style) -> EndLabel:
    """The last point, moved to the edge where it lies outside."""
    low, high = axes.get_ylim()
    return EndLabel(s.label, s.x[-1], min(max(s.y[-1], low), high), style)


def _extent(s: Series) -> list[float]:
    return [*s.y, *(s.low or []), *(s.high or [])]


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    low, high = min(kept), max(kept)
    if log:
        return low / 1.25, max(high, low * 1.01) * 1.25
    margin = 0.04 * (high - low) or 0.04 * abs(high) or 1.0
    return low - margin, high + margin


_EM = 7.5
"""Pixels of a letter."""


@dataclass(frozen=True)
class Panel:
    """One map: rows of numbers between 0 and 1, the uppermost first."""

    name: str
    numbers: Sequence[Sequence[float]]


def heatmap(
    title: str,
    subtitle: str,
    panels: Sequence[Panel],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    x_label: str,
    y_label: str,
) -> Figure:
    """Maps side by side: a larger number is a darker field, and stands in it."""
    figure, frame_axes = frame(title, subtitle, [], 130 + 46 * len(rows))
    frame_axes.set_axis_off()
    box, gap = frame_axes.get_position(), 0.04
    left = max(box.x0, (max(map(len, rows)) * _EM + 12) / WIDTH)
    width = (box.x1 - left + gap) / len(panels) - gap
    letters = max(map(len, columns)) * len(columns) * _EM
    for i, panel in enumerate(panels):
        axes = figure.add_axes((left + i * (width + gap), box.y0, width, box.height - 0.08))
        _fields(axes, panel.numbers)
        axes.set_title(panel.name, color=LIGHT["muted"], size=13)
        axes.set_xlabel(x_label, color=LIGHT["muted"], size=13)
        axes.set_xticks([k + 0.5 for k in range(len(columns))], columns)
        axes.set_yticks([k + 0.5 for k in range(len(rows))], rows if i == 0 else [""] * len(rows))
        axes.tick_params(colors=LIGHT["muted"], labelsize=13, length=0)
        axes.tick_params(axis="x", labelsize=13 * min(1.0, width * WIDTH / letters))
        axes.spines[:].set_visible(False)
        if i == 0:
            axes.set_ylabel(y_label, color=LIGHT["muted"], size=13)
    return figure


def _fields(axes: Axes, numbers: Sequence[Sequence[float]]) -> None:
    axes.set(xlim=(0, len(numbers[0])), ylim=(len(numbers), 0))
    for y, row in enumerate(numbers):
        for x, value in enumerate(row):
            shade = 0.05 + 0.6 * min(max(value, 0.0), 1.0)
            axes.add_patch(Rectangle((x, y), 0.97, 0.95, color=LIGHT_SERIES[0], alpha=shade, linewidth=0))
            axes.text(x + 0.5, y + 0.5, f"{value:.2f}", ha="center", va="center", color=LIGHT["ink"], size=13)
