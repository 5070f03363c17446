"""Seconds of rounds after local steps on slow links, and what they add to computing; `scripts/with-links` needs root.

    python benchmarks/language_links.py steps                                  seconds of an inner step, one core
    WORLD=5 scripts/with-links 10mbit python benchmarks/language_links.py rounds --link 10mbit --size large
    WORLD=5 scripts/with-links 10mbit python benchmarks/language_links.py whole --link 10mbit
    python benchmarks/language_links.py show                                   tables and plot of what is there

Five hosts in network namespaces, each behind a link of its own, time 20 rounds of each method of `language_model.py`,
and do nothing else then; how fast a model learns by steps is known from there. As engines and simulation agree to the
bit, the loss over seconds is the product of the two. `whole` checks one point of it: a run of five real workers, whose
parameters must be those of the simulation. Records are in docs/figures/language-links.jsonl.
"""

import argparse
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from language import linked, plan
from language.linked_showing import LINKS, draw, tables
from language.records import FIGURES, add, best_of, load, missing

RECORDS = FIGURES / "language-links.jsonl"
TIMED = [plan.ADAMW, *plan.METHODS]
WHOLE = ("sized noisy vote, 1 bit", "DiLoCo")


def time_steps(steps: int) -> None:
    """An inner step of the two models, on this machine."""
    for size in ("brief", "large"):
        record = {"what": "step", "size": size, "seconds": linked.seconds_of_a_step(size, steps)}
        add(record, RECORDS)
        print(record)


def time_rounds(size: str, link: str, repeats: int, names: list[str]) -> None:
    """Rounds of each method that there is no record of yet."""
    cells = [{"what": "rounds", "size": size, "link": link, "method": name} for name in names]
    left = missing(cells, load(RECORDS))
    dist.barrier()  # all have looked before rank 0 writes
    for cell in left:
        linked.write({**cell, **linked.rounds(size, cell["method"], repeats)}, RECORDS)


def run_whole(link: str, every: int) -> None:
    """Whole runs at the best rates of the study, from its first start."""
    best = best_of(load(), "brief")
    for name in WHOLE:
        cell = {"scale": "brief", **{k: best[name, every][k] for k in plan.KEYS}, "seed": 0}
        linked.write({"what": "whole", "link": link, **cell, **linked.whole(cell)}, RECORDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("steps", "rounds", "whole", "show"))
    parser.add_argument("--link", choices=LINKS, help="as told to with-links")
    parser.add_argument("--size", choices=("brief", "large"), default="brief", help="0.8 or 4.8 million parameters")
    parser.add_argument("--repeats", type=int, default=20, help="of a round, or of a step")
    parser.add_argument("--names", nargs="+", choices=TIMED, default=TIMED, metavar="METHOD", help="of the study")
    parser.add_argument("--every", type=int, default=32, help="steps to a round of a whole run")
    own = parser.parse_args()
    if own.what in ("rounds", "whole") and own.link is None:
        parser.error(f"{own.what} needs --link, one of {', '.join(LINKS)}, inside scripts/with-links")
    torch.set_num_threads(1)
    if own.what == "steps":
        time_steps(own.repeats)
    elif own.what == "show":
        print(tables(load(RECORDS)))
        draw(load(RECORDS))
    else:
        dist.init_process_group("gloo", timeout=timedelta(minutes=30))
        if own.what == "rounds":
            time_rounds(own.size, own.link, own.repeats, own.names)
        else:
            run_whole(own.link, own.every)
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
