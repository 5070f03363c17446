"""Lightning; the line marked + is all that gradvote needs.

torchrun --nproc-per-node 4 examples/with_lightning.py --ranks 4
"""

import argparse
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import DDPStrategy
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradvote
from gradvote.integrations.lightning import VoteCallback


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.02)


def main(steps: int, ranks: int) -> None:
    torch.set_num_threads(1)
    lightning.seed_everything(0, verbose=False)
    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y))
    vote = VoteCallback(gradvote.algorithms.dist_ef_sgdm())
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=DDPStrategy(**gradvote.ddp.OWN_BUFFERS),
        max_steps=steps,
        callbacks=[vote],  # +
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Digits(), DataLoader(data, batch_size=64, shuffle=True))
    if trainer.is_global_zero:
        print(f"{vote.vote.stats().compression_rate:.1f} times fewer bytes than float32")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=4)
    main(**vars(parser.parse_args()))
