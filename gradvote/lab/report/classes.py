"""The picture of who holds which classes."""

from collections.abc import Sequence

from gradvote.errors import MissingExtra
from gradvote.lab.report import format as show
from gradvote.lab.report.style import LIGHT

try:
    from matplotlib.axes import Axes
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from gradvote.lab.report.axes import HEIGHT, frame
except ImportError as error:
    raise MissingExtra("matplotlib", "report") from error

_MAX_WRITTEN, _MAX_VECTOR = 160, 1500


def class_histogram(counts: Sequence[Sequence[float]], class_names: Sequence[str]) -> Figure:
    """Workers down, classes across; the fuller the colour, the more samples of the class this worker holds."""
    num_workers, num_classes = len(counts), max((len(row) for row in counts), default=0)
    height = min(max(HEIGHT, 104 + 20 * num_workers), 480)
    figure, axes = frame("Who holds which data", "samples of each class, one row per worker", [], height)
    if not num_classes:
        axes.set_axis_off()
        return figure
    _cells(axes, counts)
    if num_workers * num_classes <= _MAX_WRITTEN:
        _write_counts(axes, counts)
    axes.set_xlim(-0.5, num_classes - 0.5)
    axes.set_ylim(num_workers - 0.5, -0.5)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    _ticks(axes, num_workers, num_classes, class_names)
    return figure


def _cells(axes: Axes, counts: Sequence[Sequence[float]]) -> None:
    """One rectangle per cell, or an image beyond some number of them."""
    largest = max(max(row) for row in counts) or 1
    colors = [[to_rgba(LIGHT["accent"], 0.06 + 0.84 * n / largest) for n in row] for row in counts]
    if len(counts) * len(counts[0]) > _MAX_VECTOR:
        axes.imshow(colors, aspect="auto", interpolation="nearest")
        return
    tall = 0.88 if len(counts) <= 40 else 1.0
    squares = [Rectangle((j - 0.47, i - tall / 2), 0.94, tall) for i, row in enumerate(counts) for j in range(len(row))]
    axes.add_collection(PatchCollection(squares, facecolors=[c for row in colors for c in row], linewidths=0))


def _write_counts(axes: Axes, counts: Sequence[Sequence[float]]) -> None:
    largest = max(max(row) for row in counts) or 1
    for i, row in enumerate(counts):
        for j, n in enumerate(row):
            if n:
                color = LIGHT["on_accent" if n > 0.5 * largest else "ink"]
                axes.text(j, i, show.count(n), ha="center", va="center_baseline", size=12, color=color)


def _ticks(axes: Axes, num_workers: int, num_classes: int, class_names: Sequence[str]) -> None:
    names = list(class_names[:num_classes]) if len(class_names) >= num_classes else list(map(str, range(num_classes)))
    across, down = _stride(num_classes, 20), _stride(num_workers, 18)
    slanted = max(map(len, names)) * len(names[::across]) > 60
    shown = [show.shortened(name, 10) for name in names[::across]]
    ticks = range(0, num_classes, across)
    if slanted:
        axes.set_xticks(ticks, shown, parse_math=False, rotation=30, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(ticks, shown, parse_math=False)
    axes.set_yticks(range(0, num_workers, down), [str(i) for i in range(0, num_workers, down)])
    axes.set_xlabel("" if slanted else "class", color=LIGHT["muted"], size=13)
    axes.set_ylabel("worker", color=LIGHT["muted"], size=13)


def _stride(num: int, most: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, … that leaves at most `most` ticks."""
    return next(stride for k in range(num) for n in "125" if (stride := int(n + "0" * k)) * most >= num)
