"""What the scripts are given here instead of their data: small, local, the same for every method.

`here.diff` of each script has the few lines that call this. Held-out data come in two halves: `valid` chooses the rate,
`test` is reported.
"""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

DATA = Path(os.environ.get("GRADVOTE_DATA", "data"))
RATE = float(os.environ.get("TINY_RATE", "0"))
SEED = int(os.environ.get("TINY_SEED", "0"))
FIRST = os.environ.get("RANK", "0") == "0" and os.environ.get("REPLICA_GROUP_ID", "0") == "0"
REPORT: dict[str, Any] = {}
"""What rank 0 tells the runner."""


def text() -> Tensor:
    """Tiny Shakespeare as numbers of its 65 characters."""
    characters = (DATA / "tinyshakespeare" / "input.txt").read_text()
    number = {c: i for i, c in enumerate(sorted(set(characters)))}
    return torch.tensor([number[c] for c in characters])


def train_text() -> Tensor:
    """Its first nine tenths."""
    return text()[:1_003_854]


def windows(tokens: Tensor, length: int) -> Dataset[tuple[Tensor, ...]]:
    """Cut into inputs (N, length) and the same a character later."""
    count = (len(tokens) - 1) // length
    inputs, targets = (tokens[i : i + count * length].view(count, length) for i in (0, 1))
    return TensorDataset(inputs, targets)


def report_text(loss_of: Callable[[Tensor, Tensor], Tensor], length: int, batches: int = 4) -> None:
    """Mean loss over `batches` batches of 64 windows from each half of the last tenth of the text."""
    if not FIRST:
        return
    held_out = text()[1_003_854:]
    with torch.no_grad():
        for name, half in zip(("valid", "test"), held_out.chunk(2), strict=True):
            inputs, targets = windows(half, length).tensors  # type: ignore[attr-defined]  # a TensorDataset
            spread = torch.linspace(0, len(inputs) - 1, 64 * batches).long().view(batches, 64)
            REPORT[name] = float(np.mean([float(loss_of(inputs[i], targets[i])) for i in spread]))


def report_classes(loss_of: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor) -> None:
    """Mean loss over the even (valid) and the odd ones (test) of held-out images, in batches of 100."""
    if not FIRST:
        return
    with torch.no_grad():
        for offset, name in enumerate(("valid", "test")):
            x, y = images[offset::2].split(100), labels[offset::2].split(100)
            REPORT[name] = float(np.mean([float(loss_of(a, b)) for a, b in zip(x, y, strict=True)]))


def cifar(train: bool, count: int) -> tuple[Tensor, Tensor]:
    """The first images of batch 1, or of batch 2 for held-out ones, (N, 3, 32, 32) in -1..1, and their classes."""
    raw = (DATA / "cifar-10-batches-bin" / f"data_batch_{1 if train else 2}.bin").read_bytes()
    rows = torch.frombuffer(bytearray(raw[: count * 3073]), dtype=torch.uint8).view(count, 3073)
    return rows[:, 1:].view(count, 3, 32, 32).float() / 127.5 - 1, rows[:, 0].long()


def mnist(count: int) -> tuple[Tensor, Tensor]:
    """The first training images, (N, 1, 28, 28) in -1..1, and their digits."""
    images = torch.frombuffer(_idx("images-idx3", 16, 784 * count), dtype=torch.uint8).view(count, 1, 28, 28)
    return images.float() / 127.5 - 1, torch.frombuffer(_idx("labels-idx1", 8, count), dtype=torch.uint8).long()


def _idx(kind: str, header: int, size: int) -> bytearray:
    path = DATA / "MNIST" / "raw" / f"train-{kind}-ubyte"
    with path.open("rb") if path.exists() else gzip.open(f"{path}.gz") as file:
        return bytearray(file.read(header + size)[header:])


def write_shards() -> None:
    """`train.bin` and `val.bin` of the text, as llm.c writes them."""
    for name, tokens in (("train", train_text()), ("val", text()[1_003_854:])):
        header = np.zeros(256, dtype=np.int32)
        header[:3] = 20240520, 1, len(tokens)
        Path(f"{name}.bin").write_bytes(header.tobytes() + tokens.numpy().astype(np.uint16).tobytes())
