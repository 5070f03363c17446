"""Hugging Face Trainer; the line marked + is all that gradvote needs.

torchrun --nproc-per-node 4 examples/with_transformers.py
"""

import argparse
import tempfile

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

import gradvote
from gradvote.integrations.transformers import VoteCallback


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def main(steps: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x, dtype=torch.float32) / 16
    data = [{"pixels": image, "labels": int(label)} for image, label in zip(images, y, strict=True)]
    vote = VoteCallback(gradvote.algorithms.dist_ef_sgdm())
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=64,
        optim="sgd",  # applies the directions; the momentum is in the algorithm
        learning_rate=0.02,
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    trainer = Trainer(Digits(), arguments, train_dataset=data, callbacks=[vote])  # +
    trainer.train()
    if trainer.is_world_process_zero():
        print(f"{vote.vote.stats().compression_rate:.1f} times fewer bytes than float32")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
