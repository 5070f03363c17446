"""Whose loss is it: dist-EF-SGDM written out without gradvote, on torchft's network, and without compression.

GRADVOTE_DATA=../shared/data python benchmarks/scripts/naive_dist_ef.py
"""

import tiny
import torch
from torch import Tensor, nn

STEPS, WORKERS, BATCH, MU = 200, 2, 32, 0.9


def network() -> nn.Module:
    features = [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    classes = [nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*features, *classes)


def feedback(x: Tensor, memory: Tensor, compressed: bool) -> Tensor:
    """The scaled sign of x and what was not sent before; the memory keeps the rest."""
    wanted = x + memory
    sent = wanted.abs().mean() * wanted.sign() if compressed else wanted
    memory.copy_(wanted - sent)
    return sent


def train(lr: float, compressed: bool) -> float:
    """Held-out loss after training (Zheng et al. 2019, Algorithm 2, at a constant rate; blocks are tensors)."""
    torch.manual_seed(1)
    model, (x, y) = network(), tiny.cifar(True, 8000)
    params = list(model.parameters())
    momenta, memories = ([[torch.zeros_like(p) for p in params] for _ in range(WORKERS)] for _ in range(2))
    servers = [torch.zeros_like(p) for p in params]
    order = torch.cat([torch.randperm(len(y)) for _ in range(2)])[: STEPS * WORKERS * BATCH].view(STEPS, WORKERS, BATCH)
    for batches in order:
        ballots = []
        for batch, momentum, memory in zip(batches, momenta, memories, strict=True):
            gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x[batch]), y[batch]), params)
            for m, g in zip(momentum, gradients, strict=True):
                m.mul_(MU).add_(g)
            nesterov = [g + MU * m for g, m in zip(gradients, momentum, strict=True)]
            ballots.append([feedback(p, e, compressed) for p, e in zip(nesterov, memory, strict=True)])
        with torch.no_grad():
            for p, server, *votes in zip(params, servers, *ballots, strict=True):
                p.sub_(feedback(sum(votes) / WORKERS, server, compressed), alpha=lr)
    with torch.no_grad():
        images, labels = tiny.cifar(False, 2000)
        return float(nn.functional.cross_entropy(model(images[1::2]), labels[1::2]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for rate in (0.016, 0.05):
        print(f"rate {rate}: compressed {train(rate, True):.3f}, not compressed {train(rate, False):.3f}", flush=True)
