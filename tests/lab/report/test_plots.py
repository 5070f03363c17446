import itertools
import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradvote.errors import MissingExtra
from gradvote.lab.report import Run
from gradvote.lab.report.classes import class_histogram
from gradvote.lab.report.plots import METRICS, Against, Metric, accuracy_against_bytes, curves
from gradvote.lab.report.style import Style, styles
from gradvote.lab.report.svg import to_svg

from .conftest import record

BY_KEY = {metric.key: metric for metric in METRICS}


def _lines(figure: Figure, kind: str) -> list[Line2D]:
    return [line for line in _axes(figure).lines if str(line.get_gid()).endswith(kind)]


def _axes(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in _axes(figure).texts]


def test_steps_and_bytes_show_the_same_values(make_run: Callable[..., Run]) -> None:
    run = make_run("one")
    (steps,) = _lines(curves([run], BY_KEY["test_accuracy"], "steps"), "line")
    (sent,) = _lines(curves([run], BY_KEY["test_accuracy"], "bytes"), "line")
    np.testing.assert_allclose(steps.get_xdata(), range(0, 501, 10))
    np.testing.assert_allclose(sent.get_xdata(), [1200 * step / 1e6 for step in range(10, 501, 10)])
    np.testing.assert_allclose(steps.get_ydata()[1:], sent.get_ydata())


def test_a_diverged_curve_ends_in_a_cross_that_says_so(make_run: Callable[..., Run], diverged: Run) -> None:
    figure = curves([make_run("one"), make_run("two"), diverged], BY_KEY["loss"], "steps")
    (cross,) = [line for line in _lines(figure, "end") if line.get_marker() == "x"]
    low, high = _axes(figure).get_ylim()
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (20, high)
    assert high < 100, "one lost run must not flatten the others"
    assert "lost diverged" in _texts(figure)
    assert low > 0


def test_a_curve_that_comes_back_ends_where_it_ends(make_run: Callable[..., Run]) -> None:
    spike = make_run("spike", [record(0), record(10, loss=1e9), record(20, loss=0.5)])
    figure = curves([make_run("one"), spike], BY_KEY["loss"], "steps")
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in _lines(figure, "end")][1] == (20, 0.5)


def test_the_loss_is_on_a_log_axis_unless_it_is_zero(make_run: Callable[..., Run]) -> None:
    assert _axes(curves([make_run("a")], BY_KEY["loss"], "steps")).get_yscale() == "log"
    zero = make_run("zero", [record(step, loss=0.0) for step in range(5)])
    assert _axes(curves([zero], BY_KEY["loss"], "steps")).get_yscale() == "linear"


def test_bytes_are_on_a_log_axis_where_runs_differ_much(make_run: Callable[..., Run]) -> None:
    runs = [make_run(name, [record(s, bytes_up=f * s) for s in range(9)]) for name, f in (("a", 1e3), ("b", 32e3))]
    assert _axes(curves(runs, BY_KEY["loss"], "bytes")).get_xscale() == "log"
    assert _axes(curves(runs[:1], BY_KEY["loss"], "bytes")).get_xscale() == "linear"


@pytest.mark.parametrize("against", ["steps", "bytes"])
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_odd_runs_are_drawn(make_run: Callable[..., Run], diverged: Run, metric: Metric, against: Against) -> None:
    odd = [
        make_run("none", []),
        make_run("one", [record(1)]),
        make_run("start", [record(0)]),
        make_run("huge", [record(s, loss=1e308, grad_norm=1e308, test_accuracy=1e308) for s in range(3)]),
        make_run("tiny", [record(s, loss=1e-300, grad_norm=5e-324) for s in range(3)]),
        make_run("nothing", [record(s, loss=math.nan, grad_norm=None) for s in range(3)]),
    ]
    for runs in (odd, [diverged], *([run] for run in odd)):
        assert to_svg(curves(runs, metric, against), "p", "t").startswith("<svg")


def test_labels_do_not_overlap_and_stay_in_the_figure(make_run: Callable[..., Run]) -> None:
    runs = [make_run(f"a-long-algorithm-name-{i}") for i in range(12)]
    for figure in (curves(runs, METRICS[0], "steps"), accuracy_against_bytes(runs)):
        figure.canvas.draw()
        boxes = sorted((text.get_window_extent() for text in _axes(figure).texts), key=lambda box: box.y0)
        assert len(boxes) == 12
        assert all(below.y1 <= above.y0 + 1 for below, above in itertools.pairwise(boxes))
        assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_a_label_keeps_its_colour_in_every_figure(make_run: Callable[..., Run]) -> None:
    one, two = make_run("one"), make_run("two")
    look = styles(["two", "one"])
    for runs in ([one, two], [two], [one]):
        figure = curves(runs, METRICS[1], "steps", look)
        assert [line.get_color() for line in _lines(figure, "line")] == [look[run.label].color for run in runs]


def test_twenty_four_styles_differ() -> None:
    looks = [Style(place) for place in range(24)]
    assert len({(look.color, look.dash) for look in looks}) == 24
    assert len({(look.color, look.marker) for look in looks[:8]}) == 8


@pytest.mark.parametrize("shape", [(1, 1), (5, 10), (40, 100), (1000, 10), (3, 0), (0, 0)])
def test_class_histograms_of_any_shape(shape: tuple[int, int]) -> None:
    counts = [[(i + j) % 3 for j in range(shape[1])] for i in range(shape[0])]
    svg = to_svg(class_histogram(counts, ["a $\\class name"] * shape[1]), "p", "t")
    assert svg.startswith("<svg")
    assert len(svg) < 400_000


def test_counts_are_written_into_the_cells() -> None:
    figure = class_histogram([[1200, 0], [0, 7]], ["cat", "dog"])
    assert _texts(figure) == ["1,200", "7"]
    assert [tick.get_text() for tick in _axes(figure).get_xticklabels()] == ["cat", "dog"]


def test_svg_follows_the_page(make_run: Callable[..., Run]) -> None:
    figure = curves([make_run("one")], METRICS[0], "steps")
    svg = to_svg(figure, "p7", "A <title>")
    assert svg == to_svg(figure, "p7", "A <title>")
    assert "http" not in svg
    assert "var(--s0)" in svg
    assert "var(--muted)" in svg
    assert 'class="series series-0-line"' in svg
    assert svg.count(' id="p7-') == svg.count(' id="')
    assert 'aria-label="A &lt;title&gt;"' in svg


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "gradvote.lab.report.plots")
    with pytest.raises(MissingExtra, match=r"gradvote\[report\]"):
        import gradvote.lab.report.plots  # noqa: F401
