"""Scripts that strangers wrote, with votes instead of averages: two processes, tiny data, three seeds.

    git clone https://github.com/karpathy/nanoGPT clones/nanoGPT      # `--clones` prints a line for each script
    python benchmarks/scripts/run.py nanogpt --root clones --data ../shared/data
    python benchmarks/scripts/run.py --table                          # docs/scripts.md from what has been run

The same number of rates is tried for each method, by the same rule and with one seed: the script's own rate (plain), or
what `suggest_lr` makes of plain's best one, divided and multiplied by √10, and then others beside the best of these.
The two best go on to three other seeds; the loss over these on one half of the held-out data chooses, the other half is
reported. What has been run is in `results/NAME.jsonl` and is not run again.
"""

import argparse
import importlib
import itertools
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import processes
from case import HERE, METHODS, Case, load, names

ROOT10 = 10**0.5
TUNE = 0
"""The seed that rates are chosen with."""


class Results:
    """A line of JSON for each cell: (method, factor, seed)."""

    def __init__(self, name: str) -> None:
        self.path = HERE / "results" / f"{name}.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, method: str, factor: float, seed: int) -> dict[str, Any] | None:
        key = (method, f"{factor:.3g}", seed)
        return next((r for r in self.rows if (r["method"], f"{r['factor']:.3g}", r["seed"]) == key), None)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def best(self, method: str) -> float | None:
        """The factor with the smallest loss on `valid` with the first seed."""
        return next(iter(self.finalists(method)), None)

    def finalists(self, method: str) -> list[float]:
        """The two factors that are best with the first seed."""
        rows = [r for r in self.rows if r["method"] == method and r["seed"] == TUNE]
        return [r["factor"] for r in sorted(rows, key=loss)[:2]]

    def chosen(self, method: str) -> float | None:
        """Of these, the one with the smaller mean loss on `valid` over the other seeds that both have run."""
        found = self.finalists(method)
        own = [{r["seed"]: loss(r) for r in self.rows if self._is_other(r, method, factor)} for factor in found]
        seeds = set.intersection(*map(set, own)) if own else set()
        return min(zip(found, own, strict=True), key=lambda each: sum(each[1][s] for s in seeds), default=(None,))[0]

    def _is_other(self, row: dict[str, Any], method: str, factor: float) -> bool:
        return row["method"] == method and row["seed"] != TUNE and f"{row['factor']:.3g}" == f"{factor:.3g}"


def loss(row: dict[str, Any]) -> float:
    """A run that failed or gave no number is the worst."""
    value = float(row.get("valid", math.nan))
    return value if math.isfinite(value) else math.inf


def next_factor(tried: list[float], best: float) -> float:
    """First the three, then beyond the edge or, if the best is inside, halfway to its neighbours."""
    for first in (1.0, 1 / ROOT10, ROOT10):
        if not any(abs(first / t - 1) < 0.01 for t in tried):
            return first
    if best == max(tried) or best == min(tried):
        return best * (ROOT10 if best == max(tried) else 1 / ROOT10)
    candidates = (best * ROOT10**0.5, best / ROOT10**0.5)
    return next(c for c in candidates if not any(abs(c / t - 1) < 0.01 for t in tried))


def cell(case: Case, arguments: argparse.Namespace, method: str, lr: float, factor: float, seed: int) -> dict[str, Any]:
    """Run it once."""
    with tempfile.TemporaryDirectory() as temporary, case.copy(arguments.root, arguments.data, method) as copy:
        result, log = Path(temporary) / "result", Path(temporary) / "log"
        row = {"method": method, "lr": lr, "factor": factor, "seed": seed}
        kept, scale = rates(case, method, lr, factor)
        env = {"TINY_RATE": kept, "TINY_SEED": seed, "TINY_FACTOR": scale}
        env |= {"TINY_RESULT": result, "GRADVOTE_DATA": arguments.data, **case.about.get("environment", {})}
        words = case.arguments({"lr": kept, "seed": seed, "out": temporary})

        def body() -> None:
            import inside

            inside.main(words, case.about.get("before", []))

        start = time.monotonic()
        torchft = case.about.get("launch") == "torchft"
        folder = copy / case.about.get("in", ".")
        ok = processes.run(body, folder, log, {k: str(v) for k, v in env.items()}, torchft)
        row["wall"] = round(time.monotonic() - start, 1)
        files = sorted(Path(temporary).glob("result.*"))
        if not ok or not files:
            return {**row, "failed": told(log.read_text())}
        ranks = [json.loads(file.read_text()) for file in files]
        return {**ranks[0], **row, "warnings": sorted({w for r in ranks for w in r["warnings"]})}


def rates(case: Case, method: str, lr: float, factor: float) -> tuple[float, float]:
    """The rate that the script is given, and what `suggest_lr` is multiplied by there: the factor is in one of them."""
    if method == "plain":
        return lr, 1.0
    return (lr * factor, 1.0) if case.about.get("keeps_rate") else (lr, factor)


def told(output: str) -> str:
    """The first traceback."""
    start = max(output.find("Traceback"), 0)
    end = output.find("Traceback", start + 1)
    return output[start : end if end > 0 else None][-2000:]


def run(case: Case, arguments: argparse.Namespace) -> None:
    """All cells of a script, those that are there already aside."""
    results = Results(case.name)
    own = float(case.about["rate"])
    for module in case.about.get("preload", []):  # forks have it
        importlib.import_module(module)

    def do(method: str, factor: float, seed: int) -> None:
        if results.find(method, factor, seed):
            return
        lr = own * (factor if method == "plain" else results.best("plain") or 1.0)
        row = cell(case, arguments, method, lr, factor, seed)
        results.add(row)
        said = row.get("failed", f"valid {row.get('valid', 0):.4f}, test {row.get('test', 0):.4f}, {row['wall']} s")
        print(f"{case.name} {method} x{factor:.3g} seed {seed}: {said}", flush=True)

    for method in arguments.methods:
        while len(tried := [r["factor"] for r in results.rows if r["method"] == method and r["seed"] == TUNE]) < (
            arguments.rates
        ):
            do(method, next_factor(tried, results.best(method) or 1.0), TUNE)
        factors = dict.fromkeys([*results.finalists(method), *([1.0] if method != "plain" else [])])
        for seed, factor in itertools.product(range(1, 1 + arguments.seeds), factors):
            do(method, factor, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(names())}; all if none is given")
    parser.add_argument("--root", type=Path, default=Path("clones"), help="the folder with your clones")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GRADVOTE_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=int, default=4)
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), help=f"of {', '.join(METHODS)}, or any algorithm"
    )
    parser.add_argument("--once", metavar="METHOD", help="run it once, and keep nothing")
    parser.add_argument("--factor", type=float, default=1.0, help="with --once: of the rate")
    parser.add_argument("--clones", action="store_true", help="say which clones are needed")
    parser.add_argument("--table", action="store_true", help="write docs/scripts.md")
    arguments = parser.parse_args()
    arguments.root, arguments.data = arguments.root.resolve(), arguments.data.resolve()
    if absent := sorted(set(arguments.names) - set(names())):
        parser.error(f"there is no script {absent[0]}; the names are {', '.join(names())}")
    cases = [load(name) for name in arguments.names or names()]
    if arguments.clones:
        print("\n".join(dict.fromkeys(case.clone() for case in cases)))
        return
    if arguments.table:
        from table import write

        write([load(name) for name in names()])
        return
    for case in cases:
        case.check(arguments.root)
    processes.prepare()
    if arguments.once:
        for case in cases:
            plain = Results(case.name).best("plain") or 1.0
            lr = float(case.about["rate"]) * (arguments.factor if arguments.once == "plain" else plain)
            row = cell(case, arguments, arguments.once, lr, arguments.factor, TUNE)
            print(row.pop("failed", "") or json.dumps(row, indent=1))
    else:
        for case in cases:
            run(case, arguments)


if __name__ == "__main__":
    main()
