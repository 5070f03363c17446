"""1,797 real handwritten digits of 8x8 pixels, shipped with scikit-learn: nothing to download.

The test half of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI). Pixels 0..16 are
scaled to [0, 1], samples are (1, 8, 8). The split never changes: of each class, a fifth (rounded) is held out
by a seeded draw.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gradvote.data.dataset import Data
from gradvote.data.shuffle import Purpose, permutation
from gradvote.errors import MissingExtra

SPLIT_SEED = 0
TEST_FRACTION = 0.2


def load(data_dir: str | Path | None = None) -> Data:
    """The digits; ``data_dir`` is not needed and not read. Raises ``MissingExtra`` without scikit-learn."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  # an extra, imported only when it is used
    except ImportError as error:
        raise MissingExtra("scikit-learn", "data") from error
    digits = load_digits()
    x = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(digits.target, dtype=torch.int64)
    test = torch.from_numpy(held_out(digits.target))
    return Data("digits", x[~test], y[~test], x[test], y[test], 10, tuple(map(str, range(10))))


def held_out(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples form the test part: ``round(0.2 * count)`` of each class."""
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = permutation(len(members), SPLIT_SEED, Purpose.SPLIT, int(label))
        mask[members[order[: round(TEST_FRACTION * len(members))]]] = True
    return mask
