"""Tables and the plot of what rounds take on links, beside what the study says of losses."""

from statistics import median

from matplotlib.figure import Figure

from gradvote.lab.experiments.findings import svg_file, write
from gradvote.lab.experiments.statistics import mean
from language.plan import ADAMW
from language.records import FIGURES, Record, best_of, load

LINKS = ("10mbit", "100mbit", "unshaped")
SHOWN = {"10mbit": "10 Mbit/s", "100mbit": "100 Mbit/s", "unshaped": "unshaped"}
PLOT = FIGURES / "language-links.svg"
NAMED = (ADAMW, "DiLoCo", "DiLoCo int8", "SparseLoCo", "sized noisy vote, 1 bit", "dist-EF, 1 bit")
"""Methods with a line in the plot."""


def tables(records: list[Record], every: int = 32) -> str:
    """Seconds of a round and the share of computing that they are, by method; then whole runs beside the product."""
    parts = [_rounds(records, size, every) for size in ("brief", "large")]
    return "\n\n".join([*(part for part in parts if part), _whole(records), _killed(records)])


def draw(records: list[Record], every: int = 32) -> None:
    """Validation loss over seconds: the losses of the study times what steps and rounds take here."""
    best, step = best_of(load(), "brief"), _step_of(records, "brief")
    links = [link for link in LINKS[:2] if _seconds(records, "brief", link)]
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    panels = figure.subplots(1, len(links), sharey=True, squeeze=False)
    for axes, link in zip(panels[0], links, strict=True):
        rounds = _seconds(records, "brief", link)
        for name in NAMED:
            own = best[name, 1 if name == ADAMW else every]
            each = step + median(rounds[name]) / own["every"]
            style = {"color": "C0"} if "bit" in name and "int8" not in name else {"color": "0.4"}
            seconds = [each * k for k in own["step"][1:]]
            axes.plot(seconds, own["loss"][1:], "-" + "os^vDP"[NAMED.index(name)], ms=4, label=name, **style)
        axes.set_xscale("log")
        axes.set_title(SHOWN[link], fontsize=10)
        axes.set_xlabel("seconds")
    panels[0][0].set_ylabel("validation loss, nats per character")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    write(PLOT, svg_file(figure, PLOT.stem))


def _rounds(records: list[Record], size: str, every: int) -> str:
    links = [link for link in LINKS if _seconds(records, size, link)]
    if not links:
        return ""
    computing = every * _step_of(records, size)
    head = "".join(f" {SHOWN[link]}: s per round | above computing |" for link in links)
    own = [r for r in records if r["what"] == "rounds" and r["size"] == size and r["link"] == links[0]]
    lines = [
        f"{own[0]['params'] / 1e6:.1f}M parameters; {every} steps of one worker on one core take {computing:.2f} s.\n",
        f"| method | MB sent in a round |{head}",
        "|---|---|" + "---|---|" * len(links),
    ]
    for r in sorted(own, key=lambda r: median(r["seconds"])):
        line = f"| {r['method']} | {r['bytes'] / 1e6:.3g} |"
        for link in links:
            found = _seconds(records, size, link).get(r["method"])
            times = every if r["method"] == ADAMW else 1
            line += (
                "  |  |" if found is None else f" {_spread(found)} | {_percent(times * median(found) / computing)} |"
            )
        lines.append(line)
    return "\n".join(lines)


def _whole(records: list[Record]) -> str:
    lines = [
        "| whole run | link | computing, s | rounds, s | rounds by the table above, s | validation | test |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in records:
        if r["what"] != "whole":
            continue
        known = _seconds(records, r["scale"], r["link"]).get(r["method"])
        product = "" if known is None else f"{r['rounds'] * median(known):.2f}"
        lines.append(
            f"| {r['method']}, H = {r['every']} | {SHOWN[r['link']]} | {r['stepping']:.1f} | {r['exchanging']:.2f} | "
            f"{product} | {r['validation']:.3f} | {r['test']:.3f} |"
        )
    return "\n".join(lines)


def _killed(records: list[Record]) -> str:
    """How much a run loses with one worker killed and back, start by start."""
    lines = []
    study = load()
    for name in dict.fromkeys(r["method"] for r in records if r["what"] == "killed"):
        killed = [r for r in records if r["what"] == "killed" and r["method"] == name and r["at"] >= 0]
        same = [
            {k: r[k] for k in ("scale", "method", "every", "inner", "outer", "seed")} | {"fault": 0.0} for r in killed
        ]
        plain = [next(o["test"] for o in study if all(o[k] == v for k, v in cell.items())) for cell in same]
        if len(killed) > 1:
            more = mean([r["test"] - whole for r, whole in zip(killed, plain, strict=True)])
            missed = sorted(r["missed"] for r in killed)
            lines.append(
                f"{name}: one of five killed in round {killed[0]['at']}, away for "
                f"{missed[0]} to {missed[-1]} rounds of 8: "
                f"{more.value:.3f} ± {more.half:.3f} nats more on the test half, over {len(killed)} starts."
            )
    return "\n".join(lines)


def _seconds(records: list[Record], size: str, link: str) -> dict[str, list[float]]:
    """Of the rounds of each method on a link."""
    own = [r for r in records if r["what"] == "rounds" and (r["size"], r["link"]) == (size, link)]
    return {r["method"]: r["seconds"] for r in own}


def _step_of(records: list[Record], size: str) -> float:
    """The last that was measured."""
    return float([r["seconds"] for r in records if r["what"] == "step" and r["size"] == size][-1])


def _spread(seconds: list[float]) -> str:
    return f"{median(seconds):.3g} ({min(seconds):.3g}–{max(seconds):.3g})"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
