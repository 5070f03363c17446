"""What a bound on scales is worth: digits, two classes for each of seven workers, and links that lie.

    python benchmarks/bounded_scales.py [--data digits] [--partition by-class] [--seeds 3]

Error memory needs sizes, and who says the size of its own ballot can say any: `bound=1` counts no scale for more than
the median of all. Rates are the best of three without faults, on a part of the training split; accuracies are of the
test split, means over seeds. Faulty links are the same ones throughout a run.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from gradvote.lab.experiments.claim import Bench
from gradvote.lab.experiments.training import train

VALUES, SIGNS, LARGE = (0.01, 0.03, 0.1), (3e-4, 1e-3, 3e-3), (0.1, 0.3, 1.0)
MEASURED = {"c": "l1", "mu": 0.0}
METHODS: dict[str, tuple[str, dict[str, Any], tuple[float, ...]]] = {
    "mean": ("sgd", {}, LARGE),
    "noisy vote, b = 0.01": ("noisy-signsgd", {"noise_std": 0.01}, SIGNS),
    "dist-EF-SGDM": ("dist-ef-sgdm", {}, VALUES),
    "the same, bound = 2": ("dist-ef-sgdm", {"bound": 2.0}, VALUES),
    "the same, bound = 1": ("dist-ef-sgdm", {"bound": 1.0}, VALUES),
    "DropSign, c = 0.1": ("dropsignsgd", {"c": 0.1}, LARGE),
    'DropSign, c = "l1", μ = 0': ("dropsignsgd", MEASURED, LARGE),
    "the same with bound = 1": ("dropsignsgd", {**MEASURED, "bound": 1.0}, LARGE),
}
KINDS: dict[str, dict[str, Any]] = {
    "× 1000": {"fault": "rescale", "factor": 1000.0},
    "random": {"fault": "random", "std": 100.0},
    "inverted": {"fault": "invert"},
}
COLUMNS = [("none", 0), *((kind, links) for kind in KINDS for links in (1, 2))]


def accuracy(given: argparse.Namespace, method: str, lr: float, kind: str, links: int, seed: int, split: str) -> float:
    """Of one run."""
    algorithm, options, _ = METHODS[method]
    faults = [{**KINDS[kind], "place": "uplink", "num": links}] if links else []
    cell = {"data": given.data, "partition": given.partition, "workers": 7, "batch_size": 32, "schedule": "cosine"}
    cell |= {"steps": given.steps, "eval_every": given.steps, "algorithm": algorithm, "options": options, "lr": lr}
    with tempfile.TemporaryDirectory() as folder:
        numbers = train({**cell, "faults": faults, "seed": seed, "split": split}, Bench(Path(folder)))
    return float(numbers["test_accuracy"][-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--partition", default="by-class")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    heads = [kind if not links else f"{links} of 7 {kind}" for kind, links in COLUMNS]
    print(f"| method | {' | '.join(heads)} |\n|{'---|' * (1 + len(heads))}")
    for method, (_, _, rates) in METHODS.items():
        best = max(rates, key=lambda lr: accuracy(given, method, lr, "none", 0, 1000, "validation"))
        means = [
            statistics.mean(accuracy(given, method, best, kind, links, seed, "test") for seed in range(given.seeds))
            for kind, links in COLUMNS
        ]
        print(f"| {method} | {' | '.join(f'{mean:.2f}' for mean in means)} |", flush=True)


if __name__ == "__main__":
    main()
