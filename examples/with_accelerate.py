"""Hugging Face Accelerate; the line marked + is all that gradvote needs.

torchrun --nproc-per-node 4 examples/with_accelerate.py    (`accelerate launch --cpu` starts one process only)
"""

import argparse

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradvote
from gradvote.integrations.accelerate import attach


def main(steps: int) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y))
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    loader = DataLoader(data, batch_size=32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    vote = attach(accelerator, model, gradvote.algorithms.dist_ef_sgdm(), max_norm=1.0)  # +
    loss = torch.zeros(())
    while vote.step < steps:
        for images, labels in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(images), labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)  # was done before the vote
                optimizer.step()
                optimizer.zero_grad()
            if vote.step == steps:
                break
    accelerator.print(f"loss {loss.item():.3f}; {vote.stats().compression_rate:.1f} times fewer bytes than float32")
    accelerator.end_training()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
