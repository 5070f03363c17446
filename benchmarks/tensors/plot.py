"""The plot of what was measured."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from gradvote.lab.experiments.findings import svg_file, write
from tensors.contest import Row


def draw(rows: Sequence[Row], file: Path) -> None:
    """Time over the number of sizes, and bars for the models."""
    figure = Figure(figsize=(10, 3.8), layout="tight")
    left, right = figure.subplots(1, 2)
    ladder = [row for row in rows if row.shapes.startswith("sizes:")]
    for index, name in enumerate(dict.fromkeys(row.name for row in ladder)):
        own = [row for row in ladder if row.name == name]
        x = [row.distinct for row in own]
        left.plot(x, [row.ms for row in own], marker="o", color=f"C{index}", label=name)
        if own[0].beside_ms is not None:
            left.plot(
                x, [row.beside_ms or 0.0 for row in own], linestyle=":", color=f"C{index}", label=f"{name}, before"
            )
    left.set(xscale="log", yscale="log", xlabel="distinct sizes of 2,000 tensors", ylabel="ms per step")
    left.legend(fontsize="small")
    models = [row for row in rows if not row.shapes.startswith("sizes:")]
    labels = [f"{row.shapes}\n{row.name}" for row in models]
    right.barh(labels, [row.of_all_reduce for row in models])
    right.axvline(1, color="black", linewidth=0.8)
    right.set(xlabel="times the fp32 all-reduce")
    right.tick_params(axis="y", labelsize="x-small")
    write(file, svg_file(figure, file.stem))
