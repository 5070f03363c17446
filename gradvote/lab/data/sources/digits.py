"""1,797 real handwritten digits of 8x8 pixels, shipped with scikit-learn: nothing to download.

The test half of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI). Pixels 0..16 are
scaled to [0, 1], samples are (1, 8, 8). The split never changes: of each class, a fifth (rounded) is held out
by a seeded draw.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gradvote.errors import MissingExtra
from gradvote.lab.data.dataset import Data
from gradvote.shuffle import Purpose, permutation

FILE, SHAPE = "digits.csv.gz", (1797, 65)
SPLIT_SEED = 0
TEST_FRACTION = 0.2


def load(data_dir: str | Path | None = None) -> Data:
    """The digits; `data_dir` is not needed and not read. Raises `MissingExtra` without scikit-learn."""
    images, target = _read()
    x = torch.tensor(images / 16, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(target, dtype=torch.int64)
    test = torch.from_numpy(held_out(target))
    return Data("digits", x[~test], y[~test], x[test], y[test], 10, tuple(map(str, range(10))))


def _read() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images (N, 8, 8) of 0..16, and labels (N,): from the file that scikit-learn brings, as its import takes a second.

    Where that file is not where it was, scikit-learn reads it.
    """
    try:
        found = find_spec("sklearn")
    except ImportError as error:
        raise MissingExtra("scikit-learn", "data") from error
    if found is None:
        raise MissingExtra("scikit-learn", "data")
    table = _table(Path(place) / "datasets" / "data" / FILE for place in found.submodule_search_locations or ())
    if table is not None:
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits  # noqa: PLC0415  # an extra, imported only when it is used

    digits = load_digits()
    return digits.images, digits.target


def _table(places: Iterable[Path]) -> NDArray[np.float64] | None:
    """The first of these files that holds what is expected: 1797 rows of 64 pixels and a label."""
    for place in places:
        try:
            table = np.loadtxt(place, delimiter=",")
        except (OSError, ValueError):
            continue
        if table.shape == SHAPE:
            return table
    return None


def held_out(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples form the test part: `round(0.2 * count)` of each class."""
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = permutation(len(members), SPLIT_SEED, Purpose.SPLIT, int(label))
        mask[members[order[: round(TEST_FRACTION * len(members))]]] = True
    return mask
