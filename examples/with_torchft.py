"""A torchft script whose all-reduce has become a vote; the lines marked + are all that gradvote needs.

torchft_lighthouse --min_replicas 2 --join_timeout_ms 1000 &
export TORCHFT_LIGHTHOUSE=http://localhost:29510
for i in 0 1 2; do REPLICA_GROUP_ID=$i python examples/with_torchft.py & done; wait
"""

import argparse
import os
from datetime import timedelta

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed import TCPStore
from torchft.manager import Manager
from torchft.process_group import ProcessGroupGloo

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
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=timedelta(seconds=10)),
        load_state_dict=None,  # + model, optimizer and server state travel with the vote
        state_dict=None,  # +
        min_replica_size=2,
        rank=0,
        world_size=1,
        store_addr="localhost",
        store_port=store.port,
    )
    vote = gradvote.torchft.attach(manager, model, optimizer, gradvote.algorithms.dist_ef_sgdm())  # +
    x, y = digits(vote.worker, num_shards)
    while manager.current_step() < steps:
        step = manager.current_step()
        batch = torch.randint(len(y), (64,), generator=torch.Generator().manual_seed(1000 * step + vote.worker))
        optimizer.zero_grad()
        manager.start_quorum()
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        committed = vote.step()  # + for manager.allreduce(p.grad) of all p, manager.should_commit and optimizer.step
        if step % 50 == 0 or not committed:
            members = vote.stats().members
            print(f"worker {vote.worker}, step {step}: loss {loss:.3f}, {members}, taken: {committed}", flush=True)
    x, y = digits(0, 1)
    accuracy = (model(x).argmax(-1) == y).float().mean().item()
    stats = vote.stats()
    abstained = {number: own.abstained for number, own in sorted(stats.workers.items())}
    print(
        f"worker {vote.worker}: accuracy {accuracy:.3f} after {stats.step} steps; abstentions {abstained}", flush=True
    )
    manager.shutdown(wait=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--shards", type=int, default=3)
    arguments = parser.parse_args()
    if "TORCHFT_LIGHTHOUSE" not in os.environ:
        parser.error("start a lighthouse and name it in TORCHFT_LIGHTHOUSE, as the first lines say")
    main(arguments.steps, arguments.shards)
