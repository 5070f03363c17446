"""The tables and the plot of `scripts/bench-links`: measured points, and the line of `gradvote plan`'s model."""

import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

import torch.distributed as dist

from gradvote.engines.launch import spawn
from gradvote.errors import MissingExtra
from gradvote.lab import plan, quantities
from gradvote.lab.bench.all_reduce import HALVES
from gradvote.lab.bench.exchange import ALGORITHMS, Result

SAMPLE = 3_000_000
RATES = [10 ** (7 + k / 8) for k in range(25)]


def table(results: Sequence[Result]) -> str:
    """Seconds, speed-up over fp32 and bytes, as text; the first fp32 row is the measure."""
    measure = next((r.best for r in results if r.name == "fp32"), None)
    lines = [f"{'':16}{'seconds':>10}{'against fp32':>14}{'MB sent':>10}{'on the wire':>13}"]
    for r in results:
        ratio = f"{measure / r.best:.1f}x" if measure is not None else "-"
        wire = f"{r.interface_bytes / 1e6:.3f}" if r.interface_bytes is not None else "-"
        lines.append(f"{r.name:16}{r.best:>10.4f}{ratio:>14}{r.bytes_sent / 1e6:>10.3f}{wire:>13}")
    return "\n".join(lines)


def main() -> None:
    """Print and draw what stands in a folder."""
    folder = Path(sys.argv[1])
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    model = _Model(runs[0]["params"], runs[0]["ranks"])
    for run in runs:
        print(f"\n{run['link']}, {run['params']:,} coordinates, {run['ranks']} ranks")
        print(table([Result(**row) for row in run["results"]]))
        if run["link"] != "unshaped":
            print(_errors(model, run))
    _plot(folder / "links.png", runs, model)


class _Model:
    """Predicted seconds by contestant and rate; the work is measured by as many processes as share the cores here."""

    def __init__(self, params: int, ranks: int) -> None:
        self.params, self.ranks = params, ranks
        found = spawn(_works, ranks, min(params, SAMPLE))
        self.work = {name: _middle([rank[name] for rank in found]) for name in ALGORITHMS}

    def __call__(self, name: str, rate: float) -> float | None:
        link = plan.Link(rate)
        if name in ("fp32", *HALVES):
            name = "fp16" if name in HALVES else name
            found = plan.predict(self.params, self.ranks, link, names=())
        elif name in ALGORITHMS:
            found = plan.predict(
                self.params,
                self.ranks,
                link,
                names={name: ALGORITHMS[name]()},
                placements=("sharded",),
                work=self.work,
            )
        else:
            return None
        return next(p.exchange for p in found.predictions if p.name == name)


def _middle(found: Sequence[plan.Work]) -> plan.Work:
    """Each number's median over the ranks: one of them may have had a core to itself, or been put aside."""
    return plan.Work(*(median(getattr(own, f.name) for own in found) for f in fields(plan.Work)))


def _works(d: int) -> dict[str, plan.Work]:
    """What each algorithm costs while the other ranks work, too."""
    found = {}
    for name, make in ALGORITHMS.items():
        dist.barrier()
        found[name] = plan.measure(make(), d, dist.get_world_size())
    return found


def _errors(model: _Model, run: dict[str, Any]) -> str:
    parts = []
    for row in run["results"]:
        predicted = model(row["name"], quantities.bandwidth(run["link"]))
        if predicted is not None:
            parts.append(f"{row['name']} {predicted / min(row['seconds']) - 1:+.0%}")
    return f"The model against the measurement: {', '.join(parts)}."


def _plot(path: Path, runs: Sequence[dict[str, Any]], model: _Model) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # an extra; the table does without it
    except ImportError:
        raise MissingExtra("matplotlib", "report") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    shaped = [run for run in runs if run["link"] != "unshaped"]
    for k, name in enumerate(dict.fromkeys(row["name"] for run in shaped for row in run["results"])):
        points = [
            (quantities.bandwidth(run["link"]) / 1e6, min(row["seconds"]))
            for run in shaped
            for row in run["results"]
            if row["name"] == name
        ]
        axes.plot(*zip(*points, strict=True), "o", color=f"C{k}", label=name)
        line = [(rate / 1e6, model(name, rate)) for rate in RATES]
        if all(seconds is not None for _, seconds in line):
            axes.plot([x for x, _ in line], [y or 0.0 for _, y in line], "-", color=f"C{k}", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="link speed, Mbit/s", ylabel="exchange, s")
    axes.set_title(f"{runs[0]['params'] / 1e6:.1f}M coordinates, {runs[0]['ranks']} ranks; lines: the cost model")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
