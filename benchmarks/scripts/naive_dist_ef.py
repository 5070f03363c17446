"""Whose loss is it: dist-EF written out without gradvote, on torchft's network, beside what is not compressed.

GRADVOTE_DATA=../shared/data python benchmarks/scripts/naive_dist_ef.py

Mean held-out loss over two seeds at each of three rates. Adam behind the signs sees one size per tensor and adapts to
nothing; before the signs it adapts to each coordinate.
"""

from collections.abc import Callable

import tiny
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

STEPS, WORKERS, BATCH, SEEDS = 200, 2, 32, (1, 2)


def network() -> nn.Module:
    features = [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    classes = [nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*features, *classes)


class Memory:
    """The scaled sign of x and what was not sent before; the memory keeps the rest."""

    def __init__(self) -> None:
        self.unsent: Tensor | float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        wanted = x + self.unsent
        sent = wanted.abs().mean() * wanted.sign()
        self.unsent = wanted - sent
        return sent


class Nesterov:
    """g + μm with m ← μm + g; the gradient itself where μ = 0."""

    def __init__(self, mu: float = 0.9) -> None:
        self.mu, self.m = mu, 0.0

    def __call__(self, g: Tensor) -> Tensor:
        self.m = self.m * self.mu + g
        return g + self.mu * self.m if self.mu else g


class Adam:
    """A worker's own update of Adam."""

    def __init__(self, beta1: float, beta2: float = 0.999) -> None:
        self.betas, self.m, self.v, self.t = (beta1, beta2), 0.0, 0.0, 0

    def __call__(self, g: Tensor) -> Tensor:
        b1, b2 = self.betas
        self.t, self.m, self.v = self.t + 1, self.m * b1 + g * (1 - b1), self.v * b2 + g * g * (1 - b2)
        return (self.m / (1 - b1**self.t)) / ((self.v / (1 - b2**self.t)) ** 0.5 + 1e-8)


Rule = Callable[[], Callable[[Tensor], Tensor]]


def train(before: Rule | None, optimizer: Callable[..., Optimizer], lr: float, seed: int) -> float:
    """Held-out loss at a constant rate; blocks are tensors. Without `before` the mean itself is applied."""
    torch.manual_seed(1)
    model, (x, y) = network(), tiny.cifar(True, 8000)
    params, draw = list(model.parameters()), torch.Generator().manual_seed(seed)
    final = optimizer(params, lr)
    workers = [[(before(), Memory()) for _ in params] for _ in range(WORKERS)] if before else []
    servers = [Memory() for _ in params]
    order = torch.cat([torch.randperm(len(y), generator=draw) for _ in range(2)])
    for batches in order[: STEPS * WORKERS * BATCH].view(STEPS, WORKERS, BATCH):
        gradients = [torch.autograd.grad(nn.functional.cross_entropy(model(x[b]), y[b]), params) for b in batches]
        for i, p in enumerate(params):
            own = [g[i] for g in gradients]
            if before:
                own = [send(make(g)) for g, (make, send) in zip(own, (w[i] for w in workers), strict=True)]
            mean = torch.stack(own).mean(0)
            p.grad = servers[i](mean) if before else mean
        final.step()
    with torch.no_grad():
        images, labels = tiny.cifar(False, 2000)
        return float(nn.functional.cross_entropy(model(images[1::2]), labels[1::2]))


def momentum(params: list[nn.Parameter], lr: float) -> Optimizer:
    return SGD(params, lr, momentum=0.9)


RULES: dict[str, tuple[Rule | None, Callable[..., Optimizer], tuple[float, ...]]] = {
    "mean, AdamW": (None, AdamW, (1e-3, 2e-3, 4e-3)),
    "mean, SGD with momentum": (None, momentum, (0.02, 0.035, 0.06)),
    "dist-EF-SGDM, SGD": (Nesterov, SGD, (0.02, 0.035, 0.06)),
    "dist-EF without momentum, AdamW": (lambda: Nesterov(0), AdamW, (5e-4, 1e-3, 2e-3)),
    "dist-EF-Adam with β₁ = 0.9, SGD": (lambda: Adam(0.9), SGD, (1e-3, 2e-3, 4e-3)),
    "dist-EF-Adam with β₁ = 0.8, SGD": (lambda: Adam(0.8), SGD, (1e-3, 2e-3, 4e-3)),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, (before, optimizer, rates) in RULES.items():
        losses = [sum(train(before, optimizer, lr, seed) for seed in SEEDS) / len(SEEDS) for lr in rates]
        print(name, ", ".join(f"{lr:g}: {loss:.3f}" for lr, loss in zip(rates, losses, strict=True)), flush=True)
