"""What every figure of the report shares: the frame, the ticks, and labels in the right margin that never overlap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from gradvote.lab.report import format as show
from gradvote.lab.report.style import LIGHT, Style

WIDTH, HEIGHT = 580, 350
"""Pixels of a figure in the page, at 72 per inch, so that a point is a pixel."""
_LEFT, _TOP, _BOTTOM, _GAP = 50, 56, 48, 14
_LABEL_SIZE, _LABEL_EM, _LABEL_LENGTH, _LABEL_PITCH, _MAX_LABELS = 13, 7.5, 24, 16.0, 16


@dataclass(frozen=True)
class EndLabel:
    """A name to stand in the right margin, level with the point where its curve ends."""

    text: str
    x: float
    y: float
    style: Style


def frame(title: str, subtitle: str, labels: Sequence[str], height: int = HEIGHT) -> tuple[Figure, Axes]:
    """An empty figure with its heading, and a right margin wide enough for the labels."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    shown = [show.shortened(label, _LABEL_LENGTH) for label in labels] if len(labels) <= _MAX_LABELS else []
    right = WIDTH - max((len(label) * _LABEL_EM + 2 * _GAP for label in shown), default=_GAP)
    box = (_LEFT / WIDTH, _BOTTOM / height, (right - _LEFT) / WIDTH, (height - _TOP - _BOTTOM) / height)
    axes = figure.add_axes(box)
    figure.text(0, 1 - 18 / height, title, size=16, weight="bold", color=LIGHT["ink"])
    figure.text(0, 1 - 37 / height, subtitle, size=13, color=LIGHT["muted"])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["grid"])
    axes.tick_params(colors=LIGHT["muted"], labelsize=13, length=0, pad=6)
    axes.grid(axis="y", color=LIGHT["grid"], linewidth=1)
    axes.set_axisbelow(True)
    return figure, axes


def set_scale(axes: Axes, which: str, log: bool, low: float, high: float) -> None:
    """Limits and readable ticks of the axis 'x' or 'y': even steps, or decades with 2 and 5 between if few."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log" if log else "linear")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    if log:
        decades = math.log10(high / low)
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.2 else (1,), numticks=7))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: show.tick(value)))


def margin_labels(axes: Axes, ends: Sequence[EndLabel]) -> None:
    """Each label in the right margin, as near to its level as its neighbours allow, a fine line leading to it.

    Call it last: the places depend on the limits. More labels than fit are left to the legend.
    """
    if not ends or len(ends) > _MAX_LABELS:
        return
    box = axes.bbox
    levels = [float(axes.transData.transform((end.x, end.y))[1] - box.y0) for end in ends]
    for end, level, place in zip(ends, levels, spread(levels, _LABEL_PITCH, 7, box.height + 5), strict=True):
        start = float(axes.transAxes.inverted().transform(axes.transData.transform((end.x, end.y)))[0])
        corner = 1 + 8 / box.width
        axes.plot(
            [start, 1, corner],
            [level / box.height, level / box.height, place / box.height],
            transform=axes.transAxes,
            color=end.style.color,
            linewidth=1,
            linestyle=(0, (1, 2)),
            clip_on=False,
            gid=f"series-{end.style.place}-lead",
        )
        axes.text(
            1 + 12 / box.width,
            place / box.height,
            show.shortened(end.text, _LABEL_LENGTH),
            transform=axes.transAxes,
            color=end.style.color,
            size=_LABEL_SIZE,
            va="center_baseline",
            parse_math=False,
            gid=f"series-{end.style.place}-name",
        )


def spread(levels: Sequence[float], pitch: float, low: float, high: float) -> list[float]:
    """Places for `levels` in [low, high], as near to them as a distance of `pitch` (less, if it must be) allows."""
    pitch = min(pitch, (high - low) / max(1, len(levels) - 1))
    order = sorted(range(len(levels)), key=lambda i: levels[i])
    groups: list[list[float]] = []  # [sum of levels, members, centre]
    for i in order:
        groups.append([levels[i], 1, _centre(levels[i], 1, pitch, low, high)])
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], pitch):
            above = groups.pop()
            total, members = groups[-1][0] + above[0], groups[-1][1] + above[1]
            groups[-1] = [total, members, _centre(total / members, members, pitch, low, high)]
    starts = [centre + (k - (members - 1) / 2) * pitch for _, members, centre in groups for k in range(int(members))]
    return [place for _, place in sorted(zip(order, starts, strict=True))]


def _centre(level: float, members: float, pitch: float, low: float, high: float) -> float:
    half = (members - 1) / 2 * pitch
    return min(max(level, low + half), high - half)


def _overlap(below: list[float], above: list[float], pitch: float) -> bool:
    gap = (above[2] - (above[1] - 1) / 2 * pitch) - (below[2] + (below[1] - 1) / 2 * pitch)
    return gap < pitch * (1 - 1e-9)
