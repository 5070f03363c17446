"""Photographs in a folder for each class, read from disk when they are needed: ImageNet's usual layout."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradvote.errors import MissingExtra
from gradvote.lab.data.folders import ENVIRONMENT, DataNotFoundError, search_folders

try:
    from PIL import Image, UnidentifiedImageError
except ImportError as error:
    raise MissingExtra("pillow", "data") from error

SUFFIXES = {".jpeg", ".jpg", ".png"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AREA, RATIO, ATTEMPTS, MARGIN = (0.08, 1.0), (3 / 4, 4 / 3), 10, 256 / 224
TRAIN, TEST = "train", "val"


@dataclass(frozen=True)
class ImageFolder:
    """The images of `root`/CLASS/*.jpg, classes and files in the order of their names.

    `read` gives an image as (3, size, size) float32, shifted and scaled by ImageNet's mean and standard deviation.

    Raises:
        ValueError: there are no folders with images in it.
    """

    root: Path
    size: int = 224
    classes: tuple[str, ...] = field(init=False)
    files: tuple[Path, ...] = field(init=False, repr=False)
    labels: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        folders = sorted(p for p in self.root.iterdir() if p.is_dir()) if self.root.is_dir() else []
        found = {p.name: sorted(f for f in p.iterdir() if f.suffix.lower() in SUFFIXES) for p in folders}
        kept = {name: files for name, files in found.items() if files}
        if not kept:
            raise ValueError(f"{self.root} holds no folders with images; expected one folder for each class.")
        labels = [label for label, files in enumerate(kept.values()) for _ in files]
        object.__setattr__(self, "classes", tuple(kept))
        object.__setattr__(self, "files", tuple(f for files in kept.values() for f in files))
        object.__setattr__(self, "labels", torch.tensor(labels))

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        """An image; with a seed a random part of it, perhaps mirrored (Szegedy et al. 2015), else its middle.

        Raises:
            ValueError: the file is not an image.
        """
        path = self.files[index]
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"{path} cannot be read as an image ({error}); remove it or fetch it again.") from error
        rng = None if seed is None else np.random.Generator(np.random.Philox(seed))
        box = _middle(*image.size) if rng is None else _part(*image.size, rng)
        pixels = np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box))
        x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        x = (x - mean) / std
        return x.flip(-1) if rng is not None and rng.random() < 0.5 else x

    def batch(self, indices: Sequence[int], seed: int | None, pool: ThreadPoolExecutor) -> tuple[Tensor, Tensor]:
        """Images and labels, read side by side; `seed` and an image's place in the batch decide which part of it."""
        seeds = [None if seed is None else seed * len(indices) + place for place in range(len(indices))]
        return torch.stack(list(pool.map(self.read, indices, seeds))), self.labels[list(indices)]


def locate(name: str, data_dir: str | Path | None = None) -> Path:
    """The folder `name` with the folders train and val in it. Raises DataNotFoundError where there is none."""
    folders = search_folders(data_dir)
    for folder in folders:
        if (folder / name / TRAIN).is_dir() and (folder / name / TEST).is_dir():
            return folder / name
    raise DataNotFoundError(
        f"The data set '{name}' was not found. Looked in: {', '.join(map(str, folders))}. Expected a folder '{name}' "
        f"there with '{TRAIN}' and '{TEST}', each with one folder of images for each class. Name the place with "
        f"{ENVIRONMENT}."
    )


def _middle(width: int, height: int) -> tuple[float, float, float, float]:
    side = min(width, height) / MARGIN
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _part(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A box of 8 to 100 % of the area and sides at most 4:3 apart; the middle if ten draws do not fit."""
    for _ in range(ATTEMPTS):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    return _middle(width, height)
