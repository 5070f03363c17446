"""One rank of a measurement on shaped links: `python -m gradvote.lab.bench.links`, started by `scripts/bench-links`.

Rank, world size, master and interface come from the environment, as under torchrun.
"""

import argparse
import json
import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from gradvote.lab.bench import exchange


def main() -> None:
    """Join the group, measure, and on rank 0 write the results as JSON."""
    options = _options()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=options.timeout))
    interface = os.environ.get("GLOO_SOCKET_IFNAME", "")
    results = exchange.run(options.params, options.names.split(","), options.repeats, interface=interface)
    if dist.get_rank() == 0:
        about = {"link": options.link, "params": options.params, "ranks": dist.get_world_size()}
        rows = [
            {"name": r.name, "seconds": r.seconds, "bytes_sent": r.bytes_sent, "interface_bytes": r.interface_bytes}
            for r in results
        ]
        Path(options.out).write_text(json.dumps({**about, "results": rows}, indent=1), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--link", required=True, help="the rate of the link, as told to tc")
    parser.add_argument("--params", type=int, default=25_600_000)
    parser.add_argument("--names", default="fp32,signsgd")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
