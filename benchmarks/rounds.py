"""Processor time of a round over the number of distinct sizes of 2,000 tensors: work alone, without a network.

    python benchmarks/rounds.py [--sizes 1 2000] [--names signsgd] [--out FILE.jsonl]

Two ranks encode, count and decode in one process with one thread; their messages are handed over. What is counted is
the processor's time for one rank, the least of some rounds, so that a busy machine changes little. Run with PYTHONPATH
set to another checkout it gives that one's time, which `--plot FILE.svg --before FILE.jsonl` draws beside the own. What
a step takes on a machine says `shapes.py`.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gradvote import algorithms
from gradvote.engines.common.part import Part, part_of
from gradvote.engines.common.placement import served
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.distributed.part_round import PartRound, RankRound
from gradvote.engines.distributed.transport import Mail
from gradvote.lab.experiments.findings import svg_file, write
from gradvote.layout import layout_of

NAMES, RANKS = ("signsgd", "signum", "dist-ef-sgdm", "dropsignsgd"), 2


def part_with(name: str, distinct: int) -> Part:
    """2,000 tensors of about 1,500 coordinates, with so many distinct lengths."""
    algorithm = algorithms.create(name)
    layout = layout_of([1500 - distinct // 2 + i % distinct for i in range(2000)], algorithm.block_size)
    return part_of(Protocol(algorithm, layout, 0), layout, served(layout, "sharded", RANKS))


def delivered(mails: list[Mail]) -> list[list[Tensor]]:
    """What each rank receives of each."""
    sent = [[torch.cat(message) for message in mail.messages] for mail in mails]
    return [[own[rank] for own in sent] for rank in range(RANKS)]


def milliseconds(name: str, distinct: int, rounds: int) -> float:
    """The processor's time of a round for one rank, the least of some."""
    part, best = part_with(name, distinct), float("inf")
    gradient, out = torch.randn(part.layout.size), torch.empty(part.layout.size)
    worker = [part.protocol.init_worker(torch.zeros(part.layout.size)) for _ in range(RANKS)]
    server = [s.protocol.init_server(torch.zeros(s.protocol.layout.size)) for s in part.shards]
    for step in range(rounds + 1):
        started = time.process_time()
        ranks = [PartRound(part, RankRound(step, r, RANKS), worker[r], server[r]) for r in range(RANKS)]
        ballots = delivered([rank.vote(gradient) for rank in ranks])
        decisions = delivered([rank.decide(own) for rank, own in zip(ranks, ballots, strict=True)])
        for rank, own in zip(ranks, decisions, strict=True):
            rank.hear(own)
            rank.read(out)
        if step:
            best = min(best, time.process_time() - started)
        worker, server = [rank.worker for rank in ranks], [rank.server for rank in ranks]
    return 1e3 * best / RANKS


def draw(now: list[dict[str, float | str]], before: list[dict[str, float | str]], file: Path) -> None:
    """Lines over the number of sizes, those of before dotted."""
    figure = Figure(figsize=(6.4, 4), layout="tight")
    axes = figure.subplots()
    for index, name in enumerate(dict.fromkeys(str(row["name"]) for row in now)):
        for rows, style, label in ((now, "o-", name), (before, "o:", f"{name}, before")):
            own = [row for row in rows if row["name"] == name]
            axes.plot([r["distinct"] for r in own], [r["ms"] for r in own], style, color=f"C{index}", label=label)
    axes.set(
        xscale="log", yscale="log", xlabel="distinct sizes of 2,000 tensors", ylabel="ms of the processor, per rank"
    )
    axes.legend(fontsize="small")
    write(file, svg_file(figure, file.stem))


def read(file: Path) -> list[dict[str, float | str]]:
    """The rows of an earlier run."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Measure, print, keep and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", default=(1, 10, 100, 500, 2000))
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, float | str]] = []
    for name in options.names:
        for distinct in options.sizes:
            rows.append(
                {"name": name, "distinct": distinct, "ms": round(milliseconds(name, distinct, options.rounds), 2)}
            )
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if options.plot:
        draw(rows, read(options.before) if options.before else [], options.plot)


if __name__ == "__main__":
    main()
