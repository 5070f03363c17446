"""Lightning: a callback attaches the vote. `DDPStrategy(ddp_comm_hook=...)` does nothing on a CPU, and says nothing.

torchrun --nproc-per-node 4 examples/with_lightning.py --ranks 4
"""

import argparse
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import gradvote


class Vote(Callback):
    """Attaches the vote when training starts, and makes sure that it is used."""

    def __init__(self, algorithm: gradvote.core.Algorithm) -> None:
        self.algorithm, self.vote = algorithm, None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        ddp = trainer.strategy.model
        if not isinstance(ddp, DistributedDataParallel):
            raise RuntimeError(f"The vote needs the strategy 'ddp'; Lightning runs {type(ddp).__name__}.")
        self.vote = gradvote.ddp.attach(ddp, self.algorithm, optimizer=trainer.optimizers[0])

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, i: int) -> None:
        if self.vote.stats().steps == 0:
            raise RuntimeError("A batch was trained without a vote: Lightning has replaced the model's hook.")

    def state_dict(self) -> dict[str, Any]:
        """Of rank 0 alone, as Lightning keeps it: write `vote.state_dict()` of each rank to resume bit for bit."""
        return {} if self.vote is None else self.vote.state_dict()


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
    loader = DataLoader(
        TensorDataset(torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)), batch_size=64, shuffle=True
    )
    vote = Vote(gradvote.algorithms.dist_ef_sgdm())
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=DDPStrategy(**gradvote.ddp.OWN_BUFFERS),
        max_steps=steps,
        callbacks=[vote],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(), loader)
    if trainer.is_global_zero and vote.vote is not None:
        print(f"{vote.vote.stats().compression_rate:.1f} times fewer bytes than float32")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=4)
    options = parser.parse_args()
    main(options.steps, options.ranks)
