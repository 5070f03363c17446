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
HALVES = ("valid", "test")
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
        for name, half in zip(HALVES, held_out.chunk(2), strict=True):
            inputs, targets = windows(half, length).tensors  # type: ignore[attr-defined]  # a TensorDataset
            spread = torch.linspace(0, len(inputs) - 1, 64 * batches).long().view(batches, 64)
            REPORT[name] = float(np.mean([float(loss_of(inputs[i], targets[i])) for i in spread]))


def report_classes(loss_of: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor) -> None:
    """Mean loss over the even (valid) and the odd ones (test) of held-out images, in batches of 100."""
    if not FIRST:
        return
    with torch.no_grad():
        for offset, name in enumerate(HALVES):
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


def large_digits(count: int) -> Dataset[tuple[Tensor, ...]]:
    """The first digits, as large as DCGAN wants them."""
    images, labels = mnist(count)
    return TensorDataset(torch.nn.functional.interpolate(images, 64, mode="bilinear", antialias=True), labels)


def report_images(generator: torch.nn.Module, size: int) -> None:
    """Moments of 1,000 samples, of all pixels and of 8 by 8 parts of the picture; their distance to those of digits.

    Two draws of noise, and of digits: the distance of the first chooses the rate.
    """
    if not FIRST:
        return
    torch.manual_seed(0)
    with torch.no_grad():
        draws = {name: torch.cat([generator(torch.randn(100, size, 1, 1)) for _ in range(10)]) for name in HALVES}
    digits = large_digits(4000).tensors[0][2000:].split(1000)  # type: ignore[attr-defined]  # a TensorDataset
    for (name, samples), real in zip(draws.items(), digits, strict=True):
        ours, theirs = _moments(samples), _moments(real)
        REPORT[name] = float((ours - theirs).norm() / theirs.norm())
    samples = draws["test"]
    REPORT["moments"] = [round(v, 4) for v in _moments(samples).flatten().tolist()]
    REPORT["mean"], REPORT["std"] = float(samples.mean()), float(samples.std())


def _moments(images: Tensor) -> Tensor:
    """(2, 64): mean over images and standard deviation of each part."""
    parts = torch.nn.functional.adaptive_avg_pool2d(images.var(0, correction=0).sqrt(), 8).flatten()
    return torch.stack([torch.nn.functional.adaptive_avg_pool2d(images.mean(0), 8).flatten(), parts])
