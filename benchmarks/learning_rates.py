"""How good the rates of `gradvote.suggest_lr` are: the held-out loss at them against that at the best rate of a grid.

    python benchmarks/learning_rates.py                    the tasks that had no part in the rule
    python benchmarks/learning_rates.py --development      those on which its constants were chosen

For each task SGD (momentum 0.9) and AdamW are tuned on a grid of half decades, on the mean of the workers' gradients.
Their best rates go through the rule, and each algorithm is trained with what it gives and with 0.1, 0.3, 1, 3 and 10
times their geometric mean, and further where the best is at an end. All runs of one kind are trained together, in the
simulation, from one start on the same batches. What is done is kept in the JSON file, and not done again.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from learning_rate_tasks import Task, development, judges
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import SGD, AdamW, Optimizer

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation

PRESENT: dict[str, tuple[Callable[..., Optimizer], Sequence[float]]] = {
    "SGD": (lambda params, lr: SGD(params, lr, momentum=0.9), [10 ** (k / 2) for k in range(-6, 2)]),
    "AdamW": (AdamW, [10 ** (k / 2) for k in range(-7, 0)]),
}
CONTESTANTS: dict[str, Callable[[], Algorithm]] = {
    "signsgd": algorithms.signsgd,
    "noisy-signsgd": lambda: algorithms.noisy(algorithms.signsgd(), 0.01),
    "signum": algorithms.signum,
    "lion": algorithms.lion,
    "mediansgd": algorithms.mediansgd,
    "ef-signsgd": algorithms.ef_signsgd,
    "dist-ef-sgdm": algorithms.dist_ef_sgdm,
    "flexcompress": algorithms.flexcompress,
    "dropsignsgd": algorithms.dropsignsgd,
}
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
STEPS, MOST_EXTENSIONS, DIVERGED = 300, 3, 10.0
Losses = dict[float, float]


class Runs:
    """R runs from the same start, which differ in their rates alone: the models' parameters are one matrix (R, d)."""

    def __init__(self, task: Task, rates: Sequence[float]) -> None:
        torch.manual_seed(0)
        self.task, self.rates, self.model = task, torch.tensor(rates), task.make()
        self.named = dict(self.model.named_parameters())
        self.sizes = [p.numel() for p in self.named.values()]
        start = torch.cat([p.detach().flatten() for p in self.named.values()])
        self.flat = start.repeat(len(rates), 1)

    def loss(self, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        parts = zip(self.named.items(), flat.split(self.sizes), strict=True)
        return self.task.loss(functional_call(self.model, {k: v.view(p.shape) for (k, p), v in parts}, (x,)), y)

    def train(self, move: Callable[[Tensor, Tensor, int], None]) -> list[float]:
        """`move` takes the gradients (R, M, d), the rates (R,) and the step. The held-out losses; infinite if none."""
        gradients = vmap(vmap(grad_and_value(self.loss), (None, 0, 0)), (0, None, None))
        for step in range(STEPS):
            factor = (1 + math.cos(math.pi * step / STEPS)) / 2 if self.task.cosine else 1.0
            move(gradients(self.flat, *self.task.batches(step))[0], self.rates * factor, step)
        with torch.no_grad():
            found = vmap(self.loss, (0, None, None))(self.flat, *self.task.test).tolist()
        return [loss if math.isfinite(loss) else math.inf for loss in found]


def train_present(task: Task, make: Callable[..., Optimizer], rates: Sequence[float]) -> list[float]:
    """The present optimizer on the mean of the workers' gradients."""
    runs = Runs(task, rates)
    optimizer = make([{"params": [row]} for row in runs.flat], lr=1.0)

    def move(gradients: Tensor, lr: Tensor, step: int) -> None:
        for row, group, rate, own in zip(runs.flat, optimizer.param_groups, lr.tolist(), gradients, strict=True):
            group["params"][0].grad, group["lr"] = own.mean(0), rate
            assert group["params"][0].data_ptr() == row.data_ptr()
        optimizer.step()

    return runs.train(move)


def train_voting(task: Task, algorithm: Algorithm, rates: Sequence[float]) -> list[float]:
    """Plain steps along the algorithm's directions."""
    runs = Runs(task, rates)
    count, d = runs.flat.shape
    engine = Simulation(protocol_for([p for _ in rates for p in runs.named.values()], algorithm, 0), task.workers)
    layout = engine.protocol.layout
    order = layout.flatten(torch.arange(count * d).split(runs.sizes * count), torch.empty(count * d, dtype=torch.int64))

    def move(gradients: Tensor, lr: Tensor, step: int) -> None:
        arranged = gradients.transpose(0, 1).flatten(1).index_select(1, order)
        direction = engine.step(arranged, step, lr.repeat_interleave(len(runs.sizes)).tolist())
        runs.flat -= lr[:, None] * torch.empty(count * d).index_copy_(0, order, direction).view(count, d)

    return runs.train(move)


def suggested(task: Task, present: dict[str, float], algorithm: Algorithm) -> dict[str, float]:
    """What a user is told after one backward pass of the first worker."""
    runs, (x, y) = Runs(task, [1.0]), task.batches(0)
    task.loss(runs.model(x[0]), y[0]).backward()
    found = {}
    for name, lr in present.items():
        rate = gradvote.suggest_lr(PRESENT[name][0](runs.model.parameters(), lr=lr), algorithm)
        assert isinstance(rate, float)
        found[name] = rate
    return found


def explored(train: Callable[[Sequence[float]], list[float]], asked: Sequence[float]) -> tuple[float, Losses]:
    """The best rate and all losses, at the rates asked for and further until the best is not at an end."""
    losses = dict(zip(asked, train(asked), strict=True))
    for _ in range(MOST_EXTENSIONS):
        best, ends = min(losses, key=losses.__getitem__), (min(losses), max(losses))
        if best not in ends:
            break
        further = [best * (10**0.5 if best == ends[1] else 10**-0.5) ** k for k in (1, 2)]
        losses |= dict(zip(further, train(further), strict=True))
    return min(losses, key=losses.__getitem__), losses


def around(rates: dict[str, float]) -> list[float]:
    """The suggested rates and a grid around their middle."""
    middle = math.prod(rates.values()) ** (1 / len(rates))
    return sorted({*rates.values(), *(middle * factor for factor in FACTORS)})


def judge(task: Task, done: dict[str, Any], keep: Callable[[], None]) -> None:
    """Fill `done` with the present optimizers' rates and, for each algorithm, rates with their losses."""
    for name, (make, grid) in PRESENT.items():
        if name not in done:
            best, losses = explored(lambda asked, m=make: train_present(task, m, asked), grid)
            done[name] = {"lr": best, "losses": losses}
            keep()
    for name, algorithm in CONTESTANTS.items():
        if name not in done:
            began = time.perf_counter()
            rates = suggested(task, {key: done[key]["lr"] for key in PRESENT}, algorithm())
            best, losses = explored(lambda asked, a=algorithm: train_voting(task, a(), asked), around(rates))
            ratios = {key: losses[rate] / losses[best] for key, rate in rates.items()}
            done[name] = {"suggested": rates, "best": best, "loss": losses[best], "ratios": ratios, "losses": losses}
            keep()
            told = ", ".join(f"{rates[k]:.2g} from {k}: {ratios[k]:.2f} times its loss" for k in PRESENT)
            print(f"  {name:15} best {best:.2g}; {told} ({time.perf_counter() - began:.0f} s)", flush=True)


def table(results: dict[str, Any]) -> str:
    """Loss at the suggested rate over the best loss, from SGD / from AdamW, by algorithm and task, and a summary."""
    lines = [f"| | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for name in CONTESTANTS:
        cells = [" / ".join(_shown(done, name, key) for key in PRESENT) for done in results.values()]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    found = sorted(
        done[n]["ratios"][key] for done in results.values() for n in CONTESTANTS if n in done for key in PRESENT
    )
    if found:
        close = ", ".join(f"{sum(r <= limit for r in found)} within {limit}" for limit in (1.1, 1.3, 2.0))
        lines.append(f"\n{len(found)} suggestions: {close}; median {median(found):.2f}")
    return "\n".join(lines)


def _shown(done: dict[str, Any], name: str, key: str) -> str:
    ratio = done[name]["ratios"][key] if name in done else math.nan
    return "diverged" if ratio > DIVERGED else f"{ratio:.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--development", action="store_true", help="the tasks on which the constants were chosen")
    parser.add_argument("--only", help="tasks whose names contain this")
    parser.add_argument("--out", type=Path, default=Path("learning_rates.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    chosen = development() if options.development else judges()
    for title, make_task in chosen.items():
        if (options.only or "") in title:
            print(title, flush=True)
            with sdpa_kernel(SDPBackend.MATH):  # the fast attention has no batching rule for many models
                judge(
                    make_task(),
                    results.setdefault(title, {}),
                    lambda: options.out.write_text(json.dumps(results, indent=1), encoding="utf-8") and None,
                )
    print(table(results))
