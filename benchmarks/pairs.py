"""Messages between few ranks over gloo: one all-to-all, and pair by pair with all receives first, in turns.

    WORLD=2 scripts/with-links 100mbit python benchmarks/pairs.py --bytes 1600000
    WORLD=2 scripts/with-links 10mbit python benchmarks/pairs.py --round "sized vote, 1 bit" --size large --repeats 8

Each rank sends so many bytes to each other one, or takes the rounds after local steps that `language_links.py` times
(GRADVOTE_DATA names the folder with tiny Shakespeare). What arrives is checked. Decision 291 has the figures.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed as dist
from language import linked, plan

from gradvote.engines.distributed import transport
from gradvote.engines.distributed.transport import Mail, Transport

WAYS = {"all-to-all": 0, "pairs": 1 << 30}
"""Ranks up to which messages go pair by pair."""
TURNS, WARM_UP = 3, 2


def swap(size: int, repeats: int) -> list[float]:
    """Seconds of a swap of messages of `size` bytes, from when all begin to when all have theirs."""
    own, seconds = Transport(None), list[float]()
    message = torch.full((size,), own.rank + 1, dtype=torch.uint8)
    for _ in range(WARM_UP + repeats):
        dist.barrier()
        started = time.perf_counter()
        (delivered,) = own.start([Mail([[message]] * own.num_ranks, [size] * own.num_ranks)])
        got = delivered.wait()
        dist.barrier()
        seconds.append(time.perf_counter() - started)
        if not all(bool((part == i + 1).all()) for i, part in enumerate(got)):
            raise RuntimeError("A message is not what its sender has sent.")
    return seconds[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=1_600_000, help="to each other rank")
    parser.add_argument("--round", choices=plan.METHODS, metavar="METHOD", help="a round of this in their place")
    parser.add_argument("--size", choices=("brief", "large"), default="brief", help="0.8 or 4.8 million parameters")
    parser.add_argument("--repeats", type=int, default=9, help="in each turn")
    own = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for way in [*WAYS] * TURNS:
        with mock.patch.object(transport, "PAIRED", WAYS[way]):
            if own.round:
                found[way] += linked.rounds(own.size, own.round, own.repeats)["seconds"]
            else:
                found[way] += swap(own.bytes, own.repeats)
    if not dist.get_rank():
        for way, seconds in found.items():
            print(f"{way}: {median(seconds):.3f} s ({min(seconds):.3f}–{max(seconds):.3f})", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
