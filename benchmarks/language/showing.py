"""Budget, table and plot of what has been measured."""

from matplotlib.figure import Figure

from gradvote.lab.experiments.findings import svg_file, write
from gradvote.lab.experiments.statistics import below, mean
from language.plan import LIES, PAIRS, SEEDS, stages
from language.records import PLOT, Record, best_of, load, missing

RIVAL, BEHIND = "DiLoCo", 0.03
"""Who is compared with, and how many nats a method of a bit may end behind it."""


def budget(scale: str, rounds: tuple[int, ...], pairs: int = PAIRS) -> str:
    """Runs of each stage, how many are done, and seconds of one core: of those that are done, as measured."""
    records = load()
    done = [r["seconds"] for r in records if r["scale"] == scale]
    each = sum(done) / len(done) if done else float("nan")
    lines = ["| stage | runs | done | seconds of one core, all |", "|---|---|---|---|"]
    names = ("tuning", f"other seeds, {SEEDS[scale]} in all", "one of five inverts, ×1 and ×10")
    for name, stage in zip(names, stages(scale, rounds, pairs), strict=True):
        cells = stage(records)
        left = len(missing(cells, records))
        lines.append(f"| {name} | {len(cells)} | {len(cells) - left} | {len(cells) * each:.0f} |")
    return "\n".join([*lines, f"A run took {each:.0f} s on average.", ""])


def table(records: list[Record], scale: str, rounds: tuple[int, ...]) -> str:
    """The best of each method, as a table in Markdown; losses of liars' runs in columns of their own."""
    lies = "".join(f" liar ×{factor:g} |" for factor in LIES)
    head = f"| method | H | validation | test | MB sent by each worker | inner, outer rate | rates tried |{lies}"
    lines = [head, "|---" * (7 + len(LIES)) + "|"]
    best = {key: r for key, r in best_of(records, scale).items() if r["every"] in (1, *rounds)}
    for (name, every), r in sorted(best.items(), key=lambda pair: pair[1]["loss"][-1]):
        own = [o for o in records if (o["scale"], o["method"], o["every"]) == (scale, name, every)]
        tried = sum(not o["fault"] and not o["seed"] for o in own)
        same = [o for o in own if (o["inner"], o["outer"]) == (r["inner"], r["outer"])]
        rates = f"{r['inner']:g}, {r['outer']:g}" if every > 1 else f"{r['inner']:g}"
        tests = [*_tests(records, r).values()]
        test = f"{sum(tests) / len(tests):.3f}" if tests else ""
        test += f" ({min(tests):.3f}–{max(tests):.3f})" if len(tests) > 1 else ""
        told = "".join(f" {_of_liar(same, factor)} |" for factor in LIES)
        line = f"| {name} | {every} | {r['loss'][-1]:.3f} | {test} | {r['megabytes']:.3g} | {rates} | {tried} |{told}"
        lines.append(line)
    return "\n".join(lines)


def gaps(records: list[Record], scale: str, rounds: tuple[int, ...]) -> str:
    """How far each method ends behind DiLoCo on the test half: start by start, with intervals and verdicts."""
    lines, best = [], best_of(records, scale)
    for every in rounds:
        if (RIVAL, every) not in best:
            continue
        rival = _tests(records, best[RIVAL, every])
        for (name, own_every), r in best.items():
            own = _tests(records, r) if own_every == every and name != RIVAL else {}
            both = sorted(own.keys() & rival.keys())
            if len(both) < 2:
                continue
            behind = mean([own[seed] - rival[seed] for seed in both])
            verdict = {True: "reached", False: "missed", None: "undecided"}[below("", behind, BEHIND).holds]
            lines.append(f"H = {every}: {name} behind {RIVAL}: {behind.value:.3f} ± {behind.half:.3f}, {verdict}")
    return "\n".join(lines)


def draw(records: list[Record], scale: str, rounds: tuple[int, ...]) -> None:
    """Validation loss against bytes, of the best of each method, numbered in the order of the table."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.subplots()
    best = {key: r for key, r in best_of(records, scale).items() if key[1] in (1, *rounds)}
    marks = dict(zip((1, *sorted(rounds)), "so^v<>", strict=False))
    for number, ((name, every), r) in enumerate(sorted(best.items(), key=lambda pair: pair[1]["loss"][-1]), 1):
        point, label = (r["megabytes"], r["loss"][-1]), f"{number}  {name}" + (f", H = {every}" if every > 1 else "")
        axes.plot(*point, marks[every], color="C0" if "bit" in name else "0.4", label=label)
        axes.annotate(str(number), point, (5 if number % 2 else -12, 3), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("MB sent by each worker in the whole run")
    axes.set_ylabel("validation loss, nats per character")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    write(PLOT, svg_file(figure, PLOT.stem))


def _tests(records: list[Record], best: Record) -> dict[int, float]:
    """The loss on the test half of the runs without a fault at a method's best rates, by their start."""
    keys = ("scale", "method", "every", "inner", "outer")
    same = [r for r in records if all(r[key] == best[key] for key in keys) and not r["fault"]]
    return {r["seed"]: r["test"] for r in same if "test" in r}


def _of_liar(same: list[Record], factor: float) -> str:
    found = [r["loss"][-1] for r in same if r["fault"] == factor]
    return f"{found[0]:.3f}" if found else ""
