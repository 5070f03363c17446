"""Workers that may die, stall and come back; the lines marked + are all that gradvote needs.

gradvote launch --workers 5 --min-workers 3 examples/with_elastic.py
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import gradvote  # +


def digits(worker: int, num_workers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Non-iid: the samples sorted by class and cut into one run for each worker."""
    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    mine = labels.argsort(stable=True).tensor_split(num_workers)[worker % num_workers]
    return images[mine], labels[mine]


def main(steps: int, num_shards: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with gradvote.elastic.attach(model, optimizer, gradvote.algorithms.dist_ef_sgdm(), deadline=1.0) as vote:  # +
        x, y = digits(vote.worker, num_shards)
        for step in vote.steps(steps):  # + the steps that all agree on; some are missing where this worker was away
            generator = torch.Generator().manual_seed(1000 * step + vote.worker)
            batch = torch.randint(len(y), (64,), generator=generator)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            vote.step()  # + instead of optimizer.step()
            if step % 50 == 0:
                print(f"worker {vote.worker}, step {step}: loss {loss.item():.3f}, members {vote.members}", flush=True)
    stats = vote.stats()
    x, y = digits(0, 1)
    accuracy = (model(x).argmax(-1) == y).float().mean().item()
    abstentions = {number: own.abstentions for number, own in sorted(stats.workers.items())}
    print(f"worker {vote.worker}: accuracy {accuracy:.3f} after {vote.step_number} steps; abstentions {abstentions}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--shards", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.steps, arguments.shards)
