"""Every kernel against its rival and the speed of memory: `python benchmarks/kernels.py [--quick] [--threads 2]`.

The same as `gradvote bench kernels`.
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console

from gradvote.bench.kernel_report import draw, heading, table
from gradvote.bench.kernels import load, run_kernels

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-kernels"))
    parser.add_argument("--sizes", type=int, nargs="+", help="of the sweep over d")
    parser.add_argument("--quick", action="store_true", help="a million coordinates at most")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(highlight=False)
    with console.status("bandwidth of memory") as status:
        result = run_kernels(
            options.out, options.sizes, options.quick, lambda name, done, total: status.update(f"{done}/{total} {name}")
        )
    found = load(options.out / "kernels.json")
    console.print(heading(result), table(found), sep="\n")
    console.print(", ".join(f"{name} ~ d^{e:.2f}" for name, e in result["exponents"].items()))
    console.print("written:", options.out / "kernels.json", *draw(found, heading(result), options.out))
