"""What `run_kernels` found, for people: a table on the console (extra `cli`) and two figures (extra `report`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from gradvote.errors import MissingExtra
from gradvote.lab.bench.measure import Measurement
from gradvote.lab.report.style import LIGHT, LIGHT_SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, RIVAL, MEMORY = LIGHT_SERIES[0], LIGHT_SERIES[1], LIGHT["muted"]
PLOTS = ("kernels-sizes.png", "kernels-workers.png")
TITLES = {
    "pack": "Sign and pack",
    "noisy": "Noisy sign and pack, Gaussian",
    "vote": "Majority vote, 7 workers",
    "median": "Median, 7 workers",
    "drop sign": "DropSignSGD worker step, granularity 64",
    "unpack": "Unpack to ±scale",
}
VARIANTS = {"vote": "of {}", "median": "of {}", "drop sign": "by {}"}
"""Of workers; by units of a mask."""
LEGEND = (
    "of 3: workers. by 64: coordinates per unit of a mask. asked: the goal at this size. memory: the share of main "
    "memory's speed that is reached, above 100% where data stay in a cache."
)


def table(found: Sequence[Measurement]) -> Table:
    """The rows of the table part: times, speed-up over the rival and what is asked for, share of memory speed.

    The rivals stand below: a terminal of 80 columns has no room for them in the rows.
    """
    result = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    result.add_column("Operation", no_wrap=True)
    for name in ("d", "ms", "rival's", "faster", "asked", "memory"):
        result.add_column(name, justify="right", no_wrap=True)
    rows = [m for m in found if m.part == "table"]
    for m in rows:
        result.add_row(*_cells(m))
    rivals = dict.fromkeys((m.operation, m.rival) for m in rows)
    named = "; ".join(f"{operation}: {rival}" for operation, rival in rivals)
    result.caption = f"{LEGEND} Rivals: {named}."
    result.caption_justify = "left"
    return result


def draw(found: Sequence[Measurement], heading: str, out: Path) -> list[Path]:
    """Writes `kernels-sizes.png` (time against d) and `kernels-workers.png` (against the number of workers)."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # an extra; the table does without it
    except ImportError:
        raise MissingExtra("matplotlib", "report") from None
    sizes, workers = Figure(figsize=(13, 7.5), layout="constrained"), Figure(figsize=(13, 4.6), layout="constrained")
    for axes, operation in zip(sizes.subplots(2, 3).flat, TITLES, strict=True):
        _against_size(axes, operation, [m for m in found if m.part == "sizes" and m.operation == operation])
    for axes, operation in zip(workers.subplots(1, 2).flat, ("vote", "median"), strict=True):
        _against_workers(axes, operation, [m for m in found if m.operation == operation and m.part != "sizes"])
    paths = []
    for figure, name in zip((sizes, workers), PLOTS, strict=True):
        figure.suptitle(heading, fontsize=11, color=LIGHT["muted"])
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        paths.append(out / name)
        figure.savefig(paths[-1], dpi=130)
    return paths


def heading(result: dict[str, Any]) -> str:
    """The machine and the speed of its memory, in a line."""
    machine, speed = result["machine"], result["bandwidth"]
    read = f"memory read at {1e-9 / speed['read']:.1f} GB/s"
    return f"{machine['processor']}, {machine['threads']} thread(s), {read}; medians of interleaved repetitions"


def _cells(m: Measurement) -> list[str]:
    name = f"{m.operation} {VARIANTS.get(m.operation, '{}').format(m.variant)}".strip()
    met = m.target is None or m.speedup is None or m.speedup >= m.target
    speedup = f"{m.speedup:.2f}×" if m.speedup and m.speedup < 10 else f"{m.speedup or 0:.0f}×"
    return [
        name,
        f"{m.d:,}",
        f"{1e3 * m.time:.3f}",
        f"{1e3 * (m.rival_time or 0):.2f}",
        f"[{'green' if met else 'red'}]{speedup}[/]",
        f"{m.target:g}×" if m.target else "",
        f"{m.memory_seconds / m.time:.0%}",
    ]


def _against_size(axes: "Axes", operation: str, rows: Sequence[Measurement]) -> None:
    d = [m.d for m in rows]
    axes.loglog(d, [1e3 * m.time for m in rows], "o-", color=OURS, markersize=4, label="gradvote")
    beside = [m for m in rows if m.rival_time is not None]
    rivals = [1e3 * (m.rival_time or 0) for m in beside]
    axes.loglog([m.d for m in beside], rivals, "s-", color=RIVAL, markersize=4, label="rival")
    axes.loglog(d, [1e3 * m.memory_seconds for m in rows], "--", color=MEMORY, label="main memory's speed")
    names = sorted({m.rival for m in beside if m.rival})
    _dress(axes, TITLES[operation], f"rival: {' or '.join(names)}")
    axes.set(xlabel="coordinates d", ylabel="ms")


def _against_workers(axes: "Axes", operation: str, rows: Sequence[Measurement]) -> None:
    ours = sorted({int(m.variant): m for m in rows}.items())
    beside = [(int(m.variant), m) for m in rows if m.rival_time is not None]
    axes.semilogy(
        [k for k, _ in ours], [1e3 * m.time for _, m in ours], "o-", color=OURS, markersize=4, label="gradvote"
    )
    for k, m in beside:
        axes.annotate(
            f"{m.speedup:.0f}×", (k, 1e3 * (m.rival_time or 0)), (0, 7), textcoords="offset points", ha="center"
        )
    axes.semilogy(
        [k for k, _ in beside], [1e3 * (m.rival_time or 0) for _, m in beside], "s", color=RIVAL, label="rival"
    )
    memory = [1e3 * m.memory_seconds for _, m in ours]
    axes.semilogy([k for k, _ in ours], memory, "--", color=MEMORY, label="main memory's speed")
    names = sorted({m.rival for _, m in beside if m.rival})
    _dress(axes, f"{TITLES[operation].partition(',')[0]}, d = {rows[0].d:,}", f"rival: {' or '.join(names)}")
    axes.set(xlabel="workers M", ylabel="ms")


def _dress(axes: "Axes", title: str, subtitle: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=11, color=LIGHT["ink"])
    axes.text(0, 1.02, subtitle, transform=axes.transAxes, fontsize=8.5, color=LIGHT["muted"])
    axes.grid(True, which="major", color=LIGHT["grid"], linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
