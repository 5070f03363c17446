"""Hugging Face Accelerate: attach after `prepare`; its own `comm_hook` setting takes only the hooks it knows.

torchrun --nproc-per-node 4 examples/with_accelerate.py    (`accelerate launch --cpu` starts one process only)
"""

import argparse

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import gradvote


def digits() -> TensorDataset:
    x, y = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y))


def main(steps: int) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    loader = DataLoader(digits(), batch_size=64, shuffle=True)
    ddp, prepared, loader = accelerator.prepare(model, optimizer, loader)
    if not isinstance(ddp, DistributedDataParallel):
        raise SystemExit("Accelerate did not wrap the model for several processes; start this with torchrun.")
    vote = gradvote.ddp.attach(ddp, gradvote.algorithms.dist_ef_sgdm(), optimizer=optimizer)
    done, loss = 0, torch.zeros(())
    while done < steps:
        for x, y in loader:
            if done == steps:
                break
            prepared.zero_grad()
            loss = nn.functional.cross_entropy(ddp(x), y)
            accelerator.backward(loss)
            prepared.step()
            done += 1
    accelerator.print(f"loss {loss.item():.3f}; {vote.stats().compression_rate:.1f} times fewer bytes than float32")
    accelerator.end_training()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
