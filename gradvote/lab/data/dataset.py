"""A data set held in memory as four tensors, and how to make one from any map-style torch data set."""

import operator
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

LOOK = 1 << 20
"""About how many numbers of each part a fingerprint looks at."""


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """Samples and labels, for training and for testing.

    `train_x` is (N, ...) float32 and `train_y` (N,) int64 with labels in 0..num_classes-1; `test_x` and
    `test_y` likewise. Raises `ValueError` when the tensors do not belong together.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    num_classes: int
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.class_names) != self.num_classes:
            raise ValueError(
                f"The data set '{self.name}' names {len(self.class_names)} classes but has "
                f"{self.num_classes}; give one name per class."
            )
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            _check(f"The {part} part of the data set '{self.name}'", x, y, self.num_classes)
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise ValueError(
                f"The data set '{self.name}' has training samples of shape {tuple(self.train_x.shape[1:])} "
                f"but test samples of shape {tuple(self.test_x.shape[1:])}; both must be alike."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample, e.g. (1, 28, 28)."""
        return tuple(self.train_x.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of all labels and of numbers spread over all samples, which tells one data set from another."""
        found = zlib.crc32(repr(self).encode())
        for x, y in ((self.train_x, self.train_y), (self.test_x, self.test_y)):
            numbers = x.flatten()[:: max(1, x.numel() // LOOK)]
            for part in (y, numbers):
                found = zlib.crc32(part.contiguous().cpu().numpy().tobytes(), found)
        return f"{found:08x}"

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape)) or "scalar"
        return (
            f"Data({self.name}: {len(self.train_y)} training and {len(self.test_y)} test samples of {shape}, "
            f"{self.num_classes} classes)"
        )


def _check(what: str, x: Tensor, y: Tensor, num_classes: int) -> None:
    if x.dtype != torch.float32 or y.dtype != torch.int64:
        raise ValueError(f"{what} must hold float32 samples and int64 labels, not {x.dtype} and {y.dtype}.")
    if x.ndim < 1 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"{what} has samples of shape {tuple(x.shape)} and labels of shape {tuple(y.shape)}; expected "
            "(N, ...) and (N,) with the same N."
        )
    if len(y) == 0:
        raise ValueError(f"{what} is empty; at least one sample is needed.")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{what} has labels from {low} to {high}; with {num_classes} classes they must be in 0..{num_classes - 1}."
        )


class MapStyle(Protocol):
    """A map-style data set: `torch.utils.data.Dataset` with a length, whose items begin with (x, y)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sequence[Any]: ...


def from_datasets(train: MapStyle, test: MapStyle, num_classes: int | None = None, name: str = "custom") -> Data:
    """Read two map-style torch data sets of (x, y) into memory, once, in index order.

    x is anything `torch.as_tensor` accepts (all of one shape; stored as float32) and y a whole number.
    `num_classes` defaults to the largest label plus one; class names are taken from `train.classes` where
    it has as many. Random transforms are drawn once, at reading. Raises `ValueError` for items that do not
    fit.
    """
    train_x, train_y = _read(train, f"The train part of the data set '{name}'")
    test_x, test_y = _read(test, f"The test part of the data set '{name}'")
    classes = num_classes if num_classes is not None else int(torch.cat([train_y, test_y]).max()) + 1
    own_names = [str(label) for label in getattr(train, "classes", ())]
    class_names = own_names if len(own_names) == classes else [str(label) for label in range(classes)]
    return Data(name, train_x, train_y, test_x, test_y, classes, tuple(class_names))


def _read(samples: MapStyle, what: str) -> tuple[Tensor, Tensor]:
    if len(samples) == 0:
        raise ValueError(f"{what} is empty; at least one sample is needed.")
    items = [_item(samples[index], f"{what}, item {index},") for index in range(len(samples))]
    shapes = {tuple(x.shape) for x, _ in items}
    if len(shapes) > 1:
        raise ValueError(
            f"{what} has samples of {len(shapes)} different shapes, such as {sorted(shapes)[0]} and "
            f"{sorted(shapes)[1]}; resize or crop them to one shape."
        )
    return torch.stack([x for x, _ in items]), torch.tensor([y for _, y in items], dtype=torch.int64)


def _item(item: Sequence[Any], what: str) -> tuple[Tensor, int]:
    try:
        x, y = item[0], item[1]
        return torch.as_tensor(x, dtype=torch.float32), operator.index(y)
    except (TypeError, ValueError, IndexError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{what} is not a pair (x, y) of an array of numbers and a whole-number label ({error}). If x is "
            "an image object, give the data set a transform that makes it a tensor, such as torchvision's "
            "ToTensor."
        ) from error
