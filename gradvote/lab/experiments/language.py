"""Language models as cells: workers with their own plays."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gradvote.lab.data import shakespeare
from gradvote.lab.experiments.claim import Bench, Cell, Numbers
from gradvote.lab.experiments.loop import Loop, device
from gradvote.lab.experiments.tuning import TEST, VALIDATION
from gradvote.lab.models import Size, Transformer
from gradvote.schedules import Cosine
from gradvote.shuffle import Purpose, bits

HELD_OUT_WINDOWS = 64


def train(cell: Cell, bench: Bench) -> Numbers:
    """Train as the cell says; `loss` is that of the held-out parts of all plays, per character, in nats.

    With a `split` it is that of the first ("validation") or the second half ("test") of each. Beside what a `Loop`
    needs a cell has `lr`, which falls along a half cosine, `batch_size`, the windows of each
    worker, and the sizes of `Size`.
    """
    return Reading(cell).run(bench)


class Reading(Loop):
    """Workers read windows of `context` characters at random places of their own plays."""

    curves = ("loss",)

    def __init__(self, cell: Cell) -> None:
        self.plays, self.length = _plays(), int(cell["context"])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(cell["seed"])
            size = {k: cell[k] for k in ("context", "width", "layers", "heads")}
            model = Transformer(Size(len(self.plays.alphabet), **size))
        super().__init__(cell, model, Cosine(cell["lr"], cell["steps"]))
        hands = shakespeare.dealt(self.plays.train, cell["workers"])
        self.texts = [torch.cat([self.plays.train[name] for name in hand]) for hand in hands]

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return [self._own(worker, text) for worker, text in enumerate(self.texts)]

    @torch.no_grad()
    def measure(self) -> tuple[float]:
        """On windows spread evenly over the held-out text."""
        text = torch.cat([_half(part, self.cell.get("split", "")) for part in self.plays.held_out.values()])
        starts = torch.linspace(0, len(text) - self.length - 1, HELD_OUT_WINDOWS).long()
        x, y = _windows(text, starts, self.length)
        return (float(cross_entropy(self.model(x.to(device())), y.to(device()))),)

    def _own(self, worker: int, text: Tensor) -> tuple[Tensor, Tensor]:
        words = bits(self.cell["seed"], Purpose.BATCHES, worker, self.step).random_raw(int(self.cell["batch_size"]))
        starts = np.atleast_1d(words) % (len(text) - self.length)
        return _windows(text, torch.from_numpy(starts.astype(np.int64)), self.length)


def _half(text: Tensor, split: str) -> Tensor:
    """Of a held-out text what one chooses by, or what one judges by; without a split all of it."""
    middle = len(text) // 2
    return {VALIDATION: text[:middle], TEST: text[middle:]}.get(split, text)


@lru_cache(maxsize=1)
def _plays() -> shakespeare.Plays:
    return shakespeare.load()


def _windows(text: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Codes and the codes that follow them, both (N, length)."""
    window = text[starts[:, None] + torch.arange(length + 1)]
    return window[:, :-1], window[:, 1:]
