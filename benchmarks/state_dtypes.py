"""What states of fewer bits cost in accuracy: momenta and memories in float32, bfloat16 and three bytes, three tasks.

    python benchmarks/state_dtypes.py [--steps 600] [--seeds 3] [--tasks digits] [--names signum] [--out FILE.jsonl]

Each run begins anew with its seed, on the same batches for every form of its states. `compensated` keeps the 24 upper
bits of a float32: a bfloat16 and a third byte of what rounding took from it. Reported is the held-out loss, and its
difference to that of float32 with the same seed.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev

import torch
from learning_rate_tasks import Task, images, language, mlp
from torch import Tensor

from gradvote import algorithms
from gradvote.core import Algorithm, State
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.layout import Layout
from gradvote.rounding import with_state_dtype

TASKS: dict[str, Callable[[], Task]] = {
    "digits": lambda: images("digits", 1, mlp(64, 48)),
    "MNIST": lambda: images("mnist", 2, mlp(196, 64)),
    "Shakespeare": language,
}
NAMES = ("signum", "lion", "ef-signsgd", "dist-ef-sgdm", "dropsignsgd", "dist-ef-adam")
FORMS = ("float32", "nearest", "stochastic", "compensated")
LOWEST = 1 << 8


def formed(algorithm: Algorithm, form: str) -> Algorithm:
    """The algorithm with states of this form."""
    if form in ("nearest", "stochastic"):
        return with_state_dtype(algorithm, torch.bfloat16, form)  # type: ignore[arg-type]  # both are roundings
    return algorithm


def in_three_bytes(state: State) -> State:
    """States (M, B, n) with the 24 upper bits of each number, rounded to the nearest."""
    return {
        key: in_three_bytes(own) if isinstance(own, dict) else _cut(own) if own.dim() > 1 else own
        for key, own in state.items()
    }


def _cut(x: Tensor) -> Tensor:
    return ((x.view(torch.int32) + LOWEST // 2) & -LOWEST).view(torch.float32)


def held_out(task: Task, name: str, form: str, seed: int, steps: int) -> float:
    """The loss after a run."""
    torch.manual_seed(seed)
    model, algorithm = task.make(), formed(algorithms.create(name), form)
    params = [*model.parameters()]
    engine = Simulation(protocol_for(params, algorithm, seed), task.workers)
    layout, rate = engine.protocol.layout, algorithms.default_lr(name)
    for step in range(steps):
        lr = rate * (1 + math.cos(math.pi * step / steps)) / 2
        x, y = task.batches(step + 100_000 * seed)
        rows = torch.stack(
            [flat_of(layout, torch.autograd.grad(task.loss(model(a), b), params)) for a, b in zip(x, y, strict=True)]
        )
        direction = engine.step(rows, step, lr)
        if form == "compensated":
            engine.workers = [in_three_bytes(own) for own in engine.workers]
            engine.server = [in_three_bytes(own) for own in engine.server]
        with torch.no_grad():
            moves = [torch.empty_like(p) for p in params]
            layout.unflatten(direction, moves)
            torch._foreach_add_(params, moves, alpha=-lr)
    with torch.no_grad():
        return float(task.loss(model(task.test[0]), task.test[1]))


def flat_of(layout: Layout, gradients: Sequence[Tensor]) -> Tensor:
    """The gradients in the layout's order."""
    return layout.flatten(gradients, torch.empty(layout.size))


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for task_name in args.tasks:
        task = TASKS[task_name]()
        for name in args.names:
            plain: list[float] = []
            for form in FORMS:
                losses = [held_out(task, name, form, seed, args.steps) for seed in range(args.seeds)]
                plain = plain or losses
                more = [own - before for own, before in zip(losses, plain, strict=True)]
                row = {"task": task_name, "name": name, "form": form, "losses": [round(x, 5) for x in losses]}
                spread = stdev(more) if len(more) > 1 else 0.0
                print(
                    f"{task_name:<12}{name:<14}{form:<12}{mean(losses):9.4f}{mean(more):+9.4f} ±{spread:.4f}",
                    flush=True,
                )
                if args.out:
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
