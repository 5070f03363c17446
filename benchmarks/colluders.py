"""What colluders do to each rule where honest workers do not resemble each other: the limit of every robust rule.

    python benchmarks/colluders.py            (some five minutes on one core; needs MNIST, see gradvote.lab.data)

Thirteen workers with momentum 0.9. Ten are honest; three know the honest mean and send minus it, which is a small lie.
Each rule has the rate that was best of three without colluders; accuracies are means over two seeds.
"""

import sys

import torch
from torch import Tensor, nn

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.engines.gradients import loop_gradients, trainable
from gradvote.engines.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.lab import data

HONEST, COLLUDERS, STEPS, BATCH, SEEDS = 10, 3, 400, 64, (0, 1)
DENSE, SIGNS = (0.003, 0.01, 0.03), (1e-4, 3e-4, 1e-3)
RULES: dict[str, tuple[Algorithm, tuple[float, ...]]] = {
    "mean": (algorithms.sgd(), DENSE),
    "vote": (algorithms.signsgd(), SIGNS),
    "noisy vote, b = 0.03": (algorithms.noisy(algorithms.signsgd(), 0.03), SIGNS),
    "median": (algorithms.mediansgd(), DENSE),
}


def accuracy(rule: Algorithm, lr: float, colluders: int, samples: data.Data, pools: list[Tensor], seed: int) -> float:
    """Test accuracy after `STEPS` steps; honest worker k draws from the samples `pools[k]`."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    params = trainable(model)
    simulation = Simulation(protocol_for(params, rule, seed), HONEST + colluders)
    layout = simulation.protocol.layout
    momentum, draw = torch.zeros(HONEST, layout.size), torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        chosen = [pool[torch.randint(len(pool), (BATCH,), generator=draw)] for pool in pools]
        batches = [(samples.train_x[i], samples.train_y[i]) for i in chosen]
        momentum = momentum * 0.9 + loop_gradients([model], batches, layout, seed, step)[1]
        lies = -momentum.mean(0).expand(colluders, -1)
        direction = simulation.step(torch.cat((momentum, lies)), step, lr)
        moves = [torch.empty_like(p) for p in params]
        layout.unflatten(direction, moves)
        with torch.no_grad():
            for p, move in zip(params, moves, strict=True):
                p.sub_(move, alpha=lr)
    with torch.no_grad():
        return float((model(samples.test_x).argmax(1) == samples.test_y).float().mean())


def main() -> None:
    """A row for each rule: two digits for each worker, and all ten for all, without and with colluders."""
    torch.set_num_threads(1)
    samples = data.load("mnist")
    y = samples.train_y
    apart = [((y == k) | (y == (k + 1) % 10)).nonzero()[:, 0] for k in range(HONEST)]
    alike = [torch.arange(len(y))] * HONEST
    print("| rule | two digits each | and 3 colluders | all digits | and 3 colluders |\n|---|---|---|---|---|")
    for name, (rule, rates) in RULES.items():
        found = []
        for pools in (apart, alike):
            best = max(rates, key=lambda lr: accuracy(rule, lr, 0, samples, pools, seed=100))
            for colluders in (0, COLLUDERS):
                runs = [accuracy(rule, best, colluders, samples, pools, seed) for seed in SEEDS]
                found.append(f"{sum(runs) / len(runs):.2f}")
        print(f"| {name} | {' | '.join(found)} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
