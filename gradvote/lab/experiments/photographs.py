"""Photographs from folders as cells: the real ImageNet recipe, and the same on any folder of classes."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradvote.lab.data import Batches, Iid
from gradvote.lab.data.image_folder import TEST, TRAIN, ImageFolder, locate
from gradvote.lab.experiments.claim import Bench, Cell, Numbers
from gradvote.lab.experiments.loop import Loop, device
from gradvote.lab.models import ResNet20, ResNet50
from gradvote.schedules import Schedule, Step

DECAYS: dict[str, tuple[float, ...]] = {"own": (1 / 3, 2 / 3, 8 / 9), "reference 36": (1 / 3, 2 / 3)}
"""By recipe the shares of the run after which the rate is divided by 10."""
WARM_UP = 5
"""Epochs in which the rate of reference 36 rises to its start value."""
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "resnet50": ResNet50,
    "resnet20": lambda classes: ResNet20(3, classes, norm=True),
}


def train(cell: Cell, bench: Bench) -> Numbers:
    """Train as the cell says; `top1` and `top5` are shares of the images in the folder val.

    Beside what a `Loop` needs a cell has `data` (a folder's name), `model`, `size` (pixels), `epochs` in place of
    `steps`, `lr`, `batch_size` of each worker, `eval_epochs` and `recipe`: the rate is divided by 10 after 30, 60 and
    80 of 90 epochs ("own"), or rises over 5 epochs and is divided by 10 every 30 ("reference 36"). It may have
    `most_steps` and `most_tests`, to stop sooner.
    """
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        return Looking(cell, pool).run(bench)


@dataclass(frozen=True)
class Rising(Schedule):
    """`then`, but over the first `steps` its rate grows evenly from nothing to that."""

    then: Schedule
    steps: int

    def __call__(self, step: int, sender: int = 0) -> float:
        return self.then(step, sender) * min(1.0, (step + 1) / max(1, self.steps))


class Looking(Loop):
    """Workers with equal parts of the images, evenly spread."""

    curves = ("top1", "top5")

    def __init__(self, cell: Cell, pool: ThreadPoolExecutor) -> None:
        root = locate(cell["data"])
        self.images, self.tests = (ImageFolder(root / part, cell["size"]) for part in (TRAIN, TEST))
        if self.images.classes != self.tests.classes:
            raise ValueError(f"The folders {TRAIN} and {TEST} in {root} do not have the same classes.")
        self.pool, seed, workers = pool, cell["seed"], cell["workers"]
        parts = Iid()(self.images.labels, workers, seed)
        self.order = [Batches(part, cell["batch_size"], seed, i) for i, part in enumerate(parts)]
        epoch = max(1, len(parts[-1]) // cell["batch_size"])
        steps, every = epoch * cell["epochs"], epoch * cell["eval_epochs"]
        steps = min(steps, cell.get("most_steps", steps))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model: nn.Module = MODELS[cell["model"]](len(self.images.classes))
        marks = tuple(math.ceil(steps * share) for share in DECAYS[cell["recipe"]])
        falling: Schedule = Step(cell["lr"], marks, tuple(10.0 ** (k + 1) for k in range(len(marks))))
        if cell["recipe"] != "own":
            falling = Rising(falling, min(WARM_UP * epoch, marks[0]))
        super().__init__({**cell, "steps": steps, "eval_every": every}, model, falling)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        workers = self.cell["workers"]
        return [
            self.images.batch(batches.at(self.step).tolist(), self.step * workers + i, self.pool)
            for i, batches in enumerate(self.order)
        ]

    @torch.no_grad()
    def measure(self) -> tuple[float, float]:
        self.model.eval()
        right, size = torch.zeros(2), self.cell["batch_size"]
        chosen = self._tested()
        for start in range(0, len(chosen), size):
            x, y = self.tests.batch(chosen[start : start + size], None, self.pool)
            best = self.model(x.to(device())).topk(min(5, len(self.tests.classes))).indices.cpu() == y[:, None]
            right += torch.stack([best[:, :1].sum(), best.sum()])
        self.model.train()
        top1, top5 = (right / len(chosen)).tolist()
        return top1, top5

    def run(self, bench: Bench) -> Numbers:
        """The curves, and how many images they were measured on."""
        return {**super().run(bench), "tests": len(self._tested())}

    def _tested(self) -> list[int]:
        """All test images, or some of them, evenly spaced."""
        num = len(self.tests)
        most = min(num, self.cell.get("most_tests", num))
        return [i * num // most for i in range(most)]
