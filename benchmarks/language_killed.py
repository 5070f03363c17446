"""One of five workers of `language_model.py` is killed in the middle of a round, started again, and let in again.

    gradvote launch --workers 5 --min-workers 3 benchmarks/language_killed.py -- --at 2 --seed 0
    gradvote launch --workers 5 --min-workers 5 benchmarks/language_killed.py -- --seed 0      nobody is killed

The elastic engine, rounds of 32 steps of AdamW at the best rates of the study, and real processes: worker 4 ends itself
with SIGKILL after half of the steps of round `--at`. Its inner states are lost with it, and it goes on from what the
others have agreed on by then. Where nobody is killed, the parameters must be those of the simulation. Records are in
docs/figures/language-links.jsonl; `python benchmarks/language_links.py show` sets them beside the runs of the study.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from language import linked, plan
from language.records import FIGURES, add, best_of, load
from language.runs import WORKERS, Reading

RECORDS = FIGURES / "language-links.jsonl"
VICTIM = WORKERS - 1


def train(cell: dict[str, Any], at: int, mark: Path) -> None:
    """This worker's part of a run; worker 0 records what became of it."""
    scale, every = plan.SCALES[cell["scale"]], cell["every"]
    reading = Reading(scale)
    model, missed = reading.model(cell["seed"]), 0
    inner, local = linked.attached(model, cell, engine="elastic", deadline=20.0)
    with local:
        for _ in local.vote.steps(scale.steps // every):
            this = local.vote.step_number
            missed += VICTIM not in local.vote.members
            for k in range(every - local.left, every):
                if at == this and k == every // 2 and local.vote.worker == VICTIM and not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                linked.take(model, inner, *reading.batches(cell["seed"], this * every + k)[local.vote.worker])
                local.step()
        worker, members = local.vote.worker, local.vote.members
    if worker:
        return
    if at < 0:
        linked.check_simulated(cell, reading, model)
    mark.unlink(missing_ok=True)
    losses = {"validation": reading.loss(model, reading.validation), "test": reading.loss(model, reading.test)}
    record = {"what": "killed", **cell, "at": at, "missed": missed, "members": list(members), **losses}
    add(record, RECORDS)
    print(record, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", type=int, default=-1, help="the round, from 0, in which worker 4 dies; -1: none")
    parser.add_argument("--seed", type=int, default=0, help="the start, as in the study")
    parser.add_argument("--method", choices=plan.METHODS, default="sized noisy vote, 1 bit", metavar="METHOD")
    parser.add_argument(
        "--mark", type=Path, default=Path(f"killed-{os.getppid()}"), help="a file that says it has died"
    )
    own = parser.parse_args()
    torch.set_num_threads(1)
    best = best_of(load(), "brief")[own.method, 32]
    train({"scale": "brief", **{k: best[k] for k in plan.KEYS}, "seed": own.seed}, own.at, own.mark)


if __name__ == "__main__":
    main()
