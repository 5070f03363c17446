"""One rank of a measurement on shaped links: `python -m gradvote.bench.links`, started by `scripts/bench-links`."""

import argparse
import json
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from gradvote.bench import exchange


def main() -> None:
    """Join the group, measure, and on rank 0 write the results as JSON."""
    options = _options()
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://{options.master}",
        rank=options.rank,
        world_size=options.world,
        timeout=timedelta(seconds=options.timeout),
    )
    results = exchange.run(options.params, options.names.split(","), options.repeats, interface=options.interface)
    if options.rank == 0:
        about = {"link": options.link, "params": options.params, "ranks": options.world}
        rows = [
            {"name": r.name, "seconds": r.seconds, "bytes_sent": r.bytes_sent, "interface_bytes": r.interface_bytes}
            for r in results
        ]
        Path(options.out).write_text(json.dumps({**about, "results": rows}, indent=1), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world", type=int, required=True)
    parser.add_argument("--master", required=True, help="host:port of rank 0")
    parser.add_argument("--interface", required=True, help="the network interface of this namespace")
    parser.add_argument("--link", required=True, help="the rate of the link, as told to tc")
    parser.add_argument("--params", type=int, default=25_600_000)
    parser.add_argument("--names", default="fp32,signsgd")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
