"""70,000 handwritten digits of 28x28 pixels (LeCun, Cortes and Burges), from the four idx files.

Pixels are scaled to [0, 1], samples are (1, 28, 28). The files may be compressed (.gz) or not. idx layout,
big-endian: magic 0x0803 for images (then count, rows, columns) or 0x0801 for labels (then count), then one
byte per value.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradvote.lab.data.dataset import Data
from gradvote.lab.data.folders import Files

IMAGES_MAGIC, LABELS_MAGIC = 0x0803, 0x0801
SIDE = 28
MOST_ITEMS = 1 << 20
STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FILES = Files(
    name="mnist",
    subfolders=(".", "raw", "MNIST/raw", "mnist"),
    groups=tuple((stem, f"{stem}.gz") for stem in STEMS),
    origin="the authors' page 'The MNIST database of handwritten digits' (four .gz files, about 11 MB), or "
    "torchvision.datasets.MNIST(folder, download=True), which fetches the same files",
)


def load(data_dir: str | Path | None = None) -> Data:
    """MNIST, or another set in its exact layout. Raises `ValueError` for files that are not."""
    train_images, train_labels, test_images, test_labels = [group[0] for group in FILES.locate(data_dir)]
    train_x, train_y = _pair(train_images, train_labels)
    test_x, test_y = _pair(test_images, test_labels)
    return Data("mnist", train_x, train_y, test_x, test_y, 10, tuple(map(str, range(10))))


def _pair(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    x = read_idx(images, IMAGES_MAGIC, (SIDE, SIDE))
    y = read_idx(labels, LABELS_MAGIC, ())
    if len(x) != len(y):
        raise ValueError(f"{images} holds {len(x)} images but {labels} holds {len(y)} labels; fetch both again.")
    if y.max() > 9:
        raise ValueError(f"{labels} holds the label {y.max()}, which is not one of MNIST's 0..9; fetch it again.")
    return torch.from_numpy(x.astype(np.float32)).div_(255).unsqueeze(1), torch.from_numpy(y.astype(np.int64))


def read_idx(file: Path, magic: int, item_shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The (N, *item_shape) bytes of an idx file; its header is checked before they are read."""
    with file.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(file) if compressed else file.open("rb") as stream:
        try:
            header = stream.read(8 + 4 * len(item_shape))
            size = _item_count(file, header, magic, item_shape) * int(np.prod(item_shape, dtype=np.int64))
            body = stream.read(size + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{file} is a damaged or truncated gzip file ({error}); fetch it again.") from error
    if len(body) != size:
        excess = "more" if len(body) > size else f"only {len(body)}"
        raise ValueError(
            f"{file} should hold {size} bytes after its header but holds {excess}; it is damaged or "
            "truncated, fetch it again."
        )
    return np.frombuffer(body, dtype=np.uint8).reshape(-1, *item_shape)


def _item_count(file: Path, header: bytes, magic: int, item_shape: tuple[int, ...]) -> int:
    found = int.from_bytes(header[:4], "big")
    if len(header) >= 4 and found != magic:
        raise ValueError(f"{file} is not the expected idx file: it starts with {found:#010x} instead of {magic:#010x}.")
    if len(header) < 8 + 4 * len(item_shape):
        raise ValueError(f"{file} ends within its header ({len(header)} bytes); it is truncated, fetch it again.")
    count, *shape = struct.unpack(f">{1 + len(item_shape)}I", header[4:])
    if tuple(shape) != item_shape:
        raise ValueError(f"{file} holds items of shape {tuple(shape)}; MNIST's are {item_shape}.")
    if not 1 <= count <= MOST_ITEMS:
        raise ValueError(f"{file} claims to hold {count} items; expected between 1 and {MOST_ITEMS}.")
    return int(count)
