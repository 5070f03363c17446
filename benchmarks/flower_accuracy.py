"""Accuracy after equal rounds: FedAvg and the vote on clients that hold two classes each, with a NaN, with liars.

    python benchmarks/flower_accuracy.py --tune [--data digits mnist] [--rounds 100] [--methods vote]
    python benchmarks/flower_accuracy.py [--data digits mnist] [--rounds 100] [--seeds 10] [--out FILE.json]

Ten clients, five local steps of SGD on batches of 32. `--tune` tries 12 settings of each method (federated/methods.py)
on seeds of its own, judged by a fifth of the training split on which nobody trains, and writes what it chose to
federated/choices.json. Without it the choices are run on other seeds and judged by the test split. Votes are counted by
the simulation, which gives Flower's parameters bit for bit on equal layouts (tests/engines/flower).
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from federated.methods import (
    METHODS,
    Setting,
    fedavg,
    fedavg_without,
    honest,
    inverting,
    liars_of,
    median,
    nan_client,
)
from federated.tasks import THREE, TWO, Task, task_of

from gradvote.lab.experiments.statistics import below, mean
from gradvote.partitions import Partition

TUNED_ON = (1000, 1001)
CHOICES = Path(__file__).parent / "federated" / "choices.json"
Row = tuple[Partition, Callable[[Task, int], float]]


def choose(data: str, name: str, rounds: int) -> dict[str, Any]:
    """The best setting of a method by the mean over the tuning seeds, and the scores of all."""
    method, scores = METHODS[name], []
    for setting in method.grid:
        own = []
        for seed in TUNED_ON:
            spoil = inverting(seed) if method.liars else honest
            own.append(method.run(task_of(data, seed, method.partition, tuning=True), seed, rounds, setting, spoil))
        scores.append(round(statistics.mean(own), 2))
    best = max(range(len(scores)), key=lambda n: scores[n])
    return {"setting": method.grid[best], "validation": scores[best], "scores": scores}


def tune(data: list[str], methods: list[str], rounds: int) -> None:
    """Choose, and write each choice as it is made."""
    for name in data:
        for method in methods:
            found = json.loads(CHOICES.read_text()) if CHOICES.is_file() else {}
            found.setdefault(name, {}).update(
                {"rounds": rounds, "seeds": TUNED_ON, method: choose(name, method, rounds)}
            )
            CHOICES.write_text(json.dumps(found, indent=1) + "\n")
            print(name, method, json.dumps(found[name][method]), flush=True)


def rows_of(choices: dict[str, Any], rounds: int) -> dict[str, Row]:
    """What is judged: the data, and a run of a task and a seed."""

    def run(name: str, faulty: str = "", **more: bool) -> Callable[[Task, int], float]:
        setting: Setting = choices[name]["setting"]
        spoils = {"NaN": lambda _: nan_client, "inverting": inverting, "": lambda _: honest}
        return lambda t, s: METHODS[name].run(t, s, rounds, setting, spoils[faulty](s), **more)

    def of_median(task: Task, seed: int) -> float:
        return fedavg(task, seed, rounds, choices["FedAvg"]["setting"], nan_client, median)

    def of_others(task: Task, seed: int) -> float:
        return fedavg_without(task, seed, rounds, choices["FedAvg"]["setting"], nan_client)

    fellows = "vote with fellows"
    return {
        "FedAvg": (TWO, run("FedAvg")),
        "vote": (TWO, run("vote")),
        "error memory": (TWO, run("error memory")),
        "FedAvg, one NaN": (TWO, run("FedAvg", "NaN")),
        "FedMedian, one NaN": (TWO, of_median),
        "FedAvg without that client": (TWO, of_others),
        "vote, one NaN": (TWO, run("vote", "NaN")),
        "error memory, one NaN": (TWO, run("error memory", "NaN")),
        "FedAvg of the honest": (THREE, run("FedAvg of the honest", "inverting")),
        "vote, three inverting": (THREE, run(fellows, "inverting", fellows=False)),
        "vote with fellows, three inverting": (THREE, run(fellows, "inverting")),
        "error memory with fellows, three inverting": (THREE, run("error memory with fellows", "inverting")),
        "vote, nobody inverts": (THREE, run(fellows, fellows=False)),
        "vote with fellows, nobody inverts": (THREE, run(fellows)),
    }


TARGETS = (
    ("vote", "FedAvg", 2.0),
    ("error memory", "FedAvg", 2.0),
    ("vote, one NaN", "FedAvg without that client", 3.0),
    ("error memory, one NaN", "FedAvg without that client", 3.0),
    ("vote, one NaN", "FedAvg", 3.0),
    ("error memory, one NaN", "FedAvg", 3.0),
    ("vote, three inverting", "FedAvg of the honest", 5.0),
    ("vote with fellows, three inverting", "FedAvg of the honest", 5.0),
    ("error memory with fellows, three inverting", "FedAvg of the honest", 5.0),
)
"""Who may end how many points behind whom."""


def judge(data: str, rounds: int, seeds: int, known: dict[str, Any], save: Callable[[], None]) -> None:
    """All rows on the test split, and how far who is behind whom, by seed, with intervals. Rows in `known` stay."""
    choices = json.loads(CHOICES.read_text())[data]
    if choices["rounds"] != rounds:
        print(f"The settings for {data} were chosen for {choices['rounds']} rounds, not {rounds}.")
    if (known.get("rounds"), known.get("seeds")) != (rounds, seeds):
        known.clear()
    known |= {"rounds": rounds, "seeds": seeds, "liars": [sorted(liars_of(s)) for s in range(seeds)], "gaps": []}
    found = known.setdefault("accuracy", {})
    for name, (partition, run) in rows_of(choices, rounds).items():
        if name not in found:
            found[name] = [round(run(task_of(data, s, partition, tuning=False), s), 2) for s in range(seeds)]
            save()
        print(data, name, mean(found[name]), found[name], flush=True)
    for own, other, limit in TARGETS:
        behind = mean([b - a for a, b in zip(found[own], found[other], strict=True)])
        verdict = {True: "reached", False: "missed", None: "undecided"}[below("", behind, limit).holds]
        gap = {"of": own, "behind": other, "points": round(behind.value, 2), "half": round(behind.half, 2)}
        known["gaps"].append({**gap, "allowed": limit, "verdict": verdict})
        print(f"{data}: {own} behind {other}: {behind.value:.1f} ± {behind.half:.1f} (allowed {limit:g}): {verdict}")
    save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["digits", "mnist"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tune", action="store_true", help="choose the settings and write them down")
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS], help="those that are tuned")
    parser.add_argument("--out", type=Path, help="what is measured; rows that it has are not run again")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.tune:
        tune(given.data, given.methods, given.rounds)
        return
    found: dict[str, Any] = json.loads(given.out.read_text()) if given.out and given.out.is_file() else {}

    def save() -> None:
        if given.out is not None:
            given.out.write_text(json.dumps(found, indent=1) + "\n")

    for name in given.data:
        judge(name, given.rounds, given.seeds, found.setdefault(name, {}), save)


if __name__ == "__main__":
    main()
