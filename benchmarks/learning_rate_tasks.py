"""Small tasks to try learning rates on: four on which the rule of `gradvote.suggest_lr` was made, five that judge it.

Workers draw their batches at random, from all samples or (`parts`) from their own. Models have no buffers and no
dropout, so that runs of many rates are one call.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradvote.lab.data import Data, load, partition_named, shakespeare
from gradvote.lab.models import Size, Transformer

Loss = Callable[[Tensor, Tensor], Tensor]
WORKERS, CONTEXT, SPAN = 3, 32, 48


@dataclass(frozen=True)
class Task:
    """A model, samples for training and held-out ones; `parts` are the samples of each worker (all of them if none)."""

    make: Callable[[], nn.Module]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    loss: Loss = functional.cross_entropy
    parts: Sequence[Tensor] | None = None
    batch: int = 16
    cosine: bool = True

    @property
    def workers(self) -> int:
        return len(self.parts) if self.parts else WORKERS

    def batches(self, step: int) -> tuple[Tensor, Tensor]:
        """The workers' batches of a step (M, n, ...)."""
        chosen = [self._chosen(step, worker) for worker in range(self.workers)]
        return torch.stack([self.train[0][i] for i in chosen]), torch.stack([self.train[1][i] for i in chosen])

    def _chosen(self, step: int, worker: int) -> Tensor:
        generator = torch.Generator().manual_seed(step * 1009 + worker)
        pool = self.parts[worker] if self.parts else torch.arange(len(self.train[0]))
        return pool[torch.randint(len(pool), (self.batch,), generator=generator)]


def development() -> dict[str, Callable[[], Task]]:
    """The tasks on which the constants were chosen."""
    return {
        "digits, MLP": lambda: images("digits", 1, mlp(64, 48)),
        "MNIST, linear": lambda: images("mnist", 2, mlp(196)),
        "regression, tanh": regression,
        "MNIST, 3 layers": lambda: images("mnist", 2, deep(), cosine=False),
    }


def judges() -> dict[str, Callable[[], Task]]:
    """The tasks that had no part in the rule."""
    return {
        "MNIST non-iid, MLP": lambda: images("mnist", 2, mlp(196, 64), spread=0.5),
        "CIFAR-10, CNN": lambda: images("cifar10", 2, cnn(), samples=8000, cosine=False),
        "Shakespeare, embeddings": authorship,
        "MNIST, autoencoder": autoencoder,
        "Shakespeare, transformer": language,
    }


def images(
    name: str, pool: int, make: Callable[[], nn.Module], samples: int = 10_000, spread: float = 0.0, cosine: bool = True
) -> Task:
    """Classes of images, `pool` times smaller; with `spread`, five workers with unequal classes (Dirichlet)."""
    data: Data = load(name)
    small = [functional.avg_pool2d(x, pool) for x in (data.train_x[:samples], data.test_x[:1000])]
    labels = data.train_y[:samples]
    parts = partition_named("dirichlet", alpha=spread)(labels, 5, 0) if spread else None
    return Task(make, (small[0], labels), (small[1], data.test_y[:1000]), parts=parts, cosine=cosine)


def regression() -> Task:
    """A noisy function of 20 numbers."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(4000, 20, generator=generator)
    inner, outer = torch.randn(20, 10, generator=generator) / 20**0.5, torch.randn(10, 1, generator=generator)
    y = torch.tanh(x @ inner * 2) @ outer + 0.1 * torch.randn(4000, 1, generator=generator)
    layers = [nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)]
    return Task(restarted(layers), (x[:3000], y[:3000]), (x[3000:], y[3000:]), functional.mse_loss, cosine=False)


def language() -> Task:
    """The next character of the plays, by a transformer of two layers of width 32."""
    plays = shakespeare.load()
    text, held_out = (torch.cat(list(part.values())) for part in (plays.train, plays.held_out))
    size = Size(len(plays.alphabet), context=CONTEXT, width=32, layers=2, heads=2)
    train, test = (windows(part, count, CONTEXT + 1) for part, count in ((text, 20_000), (held_out, 200)))
    pairs = [(part[:, :-1], part[:, 1:]) for part in (train, test)]
    return Task(lambda: Transformer(size), pairs[0], pairs[1], batch=4)


def authorship() -> Task:
    """Which of nine plays 48 characters are from, by the mean of embedded pairs: most rows have no gradient."""
    plays = shakespeare.load()
    letters = len(plays.alphabet)
    parts = []
    for texts, count in ((plays.train, 2000), (plays.held_out, 150)):
        chosen = [windows(text, count, SPAN) for text in texts.values()]
        pairs = torch.cat([(part[:, :-1] * letters + part[:, 1:]) % 1021 for part in chosen])
        parts.append((pairs, torch.arange(len(chosen)).repeat_interleave(count)))
    return Task(Bag, parts[0], parts[1])


def autoencoder() -> Task:
    """Digits of 14 by 14 pixels through 24 numbers and back."""
    data = load("mnist")
    train, test = (functional.avg_pool2d(x, 2).flatten(1) for x in (data.train_x[:10_000], data.test_x[:1000]))
    layers = [nn.Linear(196, 64), nn.GELU(), nn.Linear(64, 24), nn.Linear(24, 64), nn.GELU(), nn.Linear(64, 196)]
    return Task(restarted(layers), (train, train), (test, test), functional.mse_loss)


def windows(text: Tensor, count: int, length: int) -> Tensor:
    """`count` windows (count, length), evenly spaced."""
    starts = torch.linspace(0, len(text) - length, count).long()
    return text[starts[:, None] + torch.arange(length)]


def restarted(layers: Sequence[nn.Module]) -> Callable[[], nn.Module]:
    """A net of these layers, from a fresh start at each call."""

    def make() -> nn.Module:
        net = copy.deepcopy(nn.Sequential(*layers))
        for layer in net:
            if isinstance(layer, nn.Linear | nn.LayerNorm | nn.Conv2d):
                layer.reset_parameters()
        return net

    return make


def mlp(inputs: int, *hidden: int) -> Callable[[], nn.Module]:
    """Fully connected, ReLU, ten classes."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return restarted([*layers, nn.Linear(inputs, 10)])


def deep() -> Callable[[], nn.Module]:
    """Three layers with GELU and LayerNorm."""
    first, second = ([nn.Linear(n, 32), nn.GELU(), nn.LayerNorm(32)] for n in (196, 32))
    return restarted([nn.Flatten(), *first, *second, nn.Linear(32, 10)])


def cnn() -> Callable[[], nn.Module]:
    """Two convolutions of stride 2 on 16 by 16 pixels."""
    first, second = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
    return restarted([first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)])


class Bag(nn.Module):
    """The mean of embeddings, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Embedding(1021, 16), nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.rows(x).mean(-2))
        return logits
