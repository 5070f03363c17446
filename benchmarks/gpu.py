"""Everything that a CUDA device must show, in one command of under four minutes: `python benchmarks/gpu.py`.

Results first: the contract tests, the kernels' tests and the golden hashes on the card. Then the bandwidth of each
kernel over that of a copy, training steps with and without votes, DDP on two ranks that share the card, NCCL, memory.
Needs the checkout, torch >= 2.11, triton >= 3.6, numba, numpy, pytest and hypothesis. Prints tables, and which targets
hold; writes `gpu.json` with the device and versions to `--out`.
"""

import argparse
import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch  # after the checkout is on the path
from card import correct, kernels, ranks, report, steps, timing, warm  # as torch

PARTS = ("tests", "kernels", "steps", "ranks", "memory", "nccl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for gpu.json")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--only", default="", help="kernels and test files whose name contains this")
    parser.add_argument("--processes", type=int, default=12, help="for the tests")
    parser.add_argument("--large", action="store_true", help="kernels at 124M coordinates, too")
    parser.add_argument(
        "--table", type=Path, help="only write what is in card/results into a page, docs/performance.md"
    )
    own = parser.parse_args()
    if own.table is not None:
        return report.rewrite(own.table)
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA device here: torch.cuda.is_available() is False.")
    found: dict[str, Any] = {"device": device()}
    print(*(f"{name}: {value}" for name, value in found["device"].items()), sep=", ")
    work: dict[str, Callable[[], Any]] = {
        "tests": lambda: tests(own.processes, own.only),
        "kernels": lambda: kernel_table(own.only, own.large),
        "steps": step_table,
        "ranks": lambda: in_folder(ranks.ddp, "ms per step of ResNet-50, two ranks of gloo on one card"),
        "memory": lambda: in_folder(ranks.memory, "bytes per parameter beyond parameter and gradient: kept, peak"),
        "nccl": lambda: in_folder(ranks.nccl, "NCCL with one rank gives the parameters that gloo gives"),
    }
    for part in own.parts:
        start = time.perf_counter()
        try:
            found[part] = work[part]()
        except Exception as error:  # the other parts still say something, and a card is rarely at hand
            found[part] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
            print(f"{part} FAILED: {found[part]['failed']}")
        print(f"[{part}: {time.perf_counter() - start:.0f} s]", flush=True)
        own.out.mkdir(parents=True, exist_ok=True)
        (own.out / "gpu.json").write_text(json.dumps(found, indent=1))
    return None


def device() -> dict[str, Any]:
    own = torch.cuda.get_device_properties(0)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "triton", "numba", "numpy")}
    return {"name": own.name, "memory": own.total_memory, "processors": own.multi_processor_count, **versions}


def tests(processes: int, only: str) -> dict[str, str]:
    if correct.ENGINES in only or not only:
        start = time.perf_counter()
        print(f"{warm.run(processes)} kernels of the engines' tests compiled in {time.perf_counter() - start:.0f} s")
    results = correct.run(processes, only)
    for file, line in results.items():
        print(f"{file:60} {line}")
    print("all hold" if correct.all_passed(results) else "NOT ALL HOLD")
    return results


def kernel_table(only: str, large: bool) -> dict[str, Any]:
    copy, empty = timing.copy_bandwidth(), timing.empty_call()
    print(f"copy: {copy / 1e12:.2f} TB/s read and written; an empty call {1e6 * empty.card:.1f} us")
    rows, failed = [], {}
    for size, blocks in list(kernels.SIZES.items())[: 1 + large]:
        for case in kernels.cases(blocks):
            if only not in case.name:
                continue
            try:
                row = kernels.measure(case, size, copy, 50 if size == "25.6M" else 20, size == "25.6M")
            except Exception as error:  # as above
                failed[f"{case.name}, {size}"] = f"{type(error).__name__}: {error}"[:1500]
                print(f"{case.name:42} FAILED: {failed[f'{case.name}, {size}'][:700]}")
                torch.cuda.empty_cache()
                continue
            rows.append(asdict(row))
            print(line_of(row), flush=True)
            torch.cuda.empty_cache()
    return {"copy": copy, "empty": asdict(empty), "rows": rows, "failed": failed}


def line_of(row: kernels.Found) -> str:
    verdict = "" if row.target is None else "holds" if row.bandwidth >= row.target else f"MISSED ({row.target:.0%})"
    rivals = ", ".join(
        f"{name} x{ratio:.1f}" + ("" if ratio >= row.wanted.get(name, 0) else f" MISSED ({row.wanted[name]:.0f})")
        for name, ratio in row.rivals.items()
    )
    card, host = 1e6 * row.time.card, 1e6 * row.time.host
    return f"{row.name:42} {row.size:6} {card:8.1f} us  {row.bandwidth:6.1%} {verdict:14} host {host:6.1f} us  {rivals}"


def step_table() -> list[dict[str, Any]]:
    rows = []
    for model in ("ResNet-50", "GPT-2 124M"):
        for row in steps.run(model):
            rows.append(asdict(row))
            share, target = row.card / row.plain, report.TARGETS.get((row.model, row.algorithm))
            verdict = "" if target is None else "holds" if share <= target else f"MISSED ({target:.0%})"
            print(
                f"{model:12} {row.algorithm:16} plain {row.plain:7.2f} ms, voting {row.voting:7.2f} ms "
                f"({row.voting / row.plain - 1:+.1%}); encode + decode {row.card:.2f} ms = {share:.1%} {verdict} "
                f"(processor {row.host:.2f} ms)",
                flush=True,
            )
        torch.cuda.empty_cache()
    return rows


def in_folder(measure: Callable[[Path], dict[str, Any]], title: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    print(title)
    for name, value in found.items():
        print(f"  {name:20} {value}")
    return found


if __name__ == "__main__":
    main()
