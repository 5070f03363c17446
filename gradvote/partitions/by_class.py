"""The partition of the median papers: each worker holds a few classes that nobody else holds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradvote.fitting import Checked
from gradvote.partitions._common import as_part, check, check_none_empty
from gradvote.shuffle import Purpose, permutation


@dataclass(frozen=True)
class ByClass(Checked):
    """Each worker holds its own classes exclusively, or shares each with `redundancy - 1` others.

    With redundancy r, C classes have C * r places, filled in an order drawn from the seed.
    `classes_per_worker=None` spreads them as evenly as possible over M workers (10 over 3: 4, 3, 3); a
    number k must fit exactly, k * M = C * r, so that no class goes unused and none is held more often than
    asked. The r holders of a class divide its samples evenly, at random. Exclusive classes: Chen et al. 2020.
    """

    classes_per_worker: int | None = None
    redundancy: int = 1

    def __post_init__(self) -> None:
        if self.classes_per_worker is not None and self.classes_per_worker < 1:
            raise ValueError(f"classes_per_worker is {self.classes_per_worker}; it must be at least 1, or None.")
        if self.redundancy < 1:
            raise ValueError(f"redundancy is {self.redundancy}; each class needs at least 1 worker.")

    def __call__(self, labels: Tensor, num_workers: int, seed: int) -> list[Tensor]:
        """The sorted indices of each worker. Raises `ValueError` when classes and workers do not fit."""
        known = check(labels, num_workers)
        classes = np.unique(known)
        self._check_fit(len(classes), num_workers)
        drawn = classes[permutation(len(classes), seed, Purpose.CLASSES)]
        places = np.array_split(np.tile(drawn, self.redundancy), num_workers)
        hands: list[list[NDArray[np.int64]]] = [[] for _ in range(num_workers)]
        for number, label in enumerate(classes):
            members = np.flatnonzero(known == label)
            shuffled = members[permutation(len(members), seed, Purpose.PARTITION, number)]
            holders = [hand for hand, held in zip(hands, places, strict=True) if label in held]
            for hand, piece in zip(holders, np.array_split(shuffled, self.redundancy), strict=True):
                hand.append(piece)
        parts = [as_part(np.concatenate(hand)) for hand in hands]
        check_none_empty(parts, f"Its classes have fewer samples than redundancy = {self.redundancy}; lower it.")
        return parts

    def _check_fit(self, num_classes: int, num_workers: int) -> None:
        k, r, places = self.classes_per_worker, self.redundancy, num_classes * self.redundancy
        if k is not None and k > num_classes:
            raise ValueError(f"classes_per_worker is {k}, but the data have only {num_classes} classes.")
        if r > num_workers:
            raise ValueError(f"redundancy is {r}, but only {num_workers} workers can hold a class; use at most that.")
        if num_workers > places:
            raise ValueError(
                f"{num_workers} workers cannot each hold one of {num_classes} classes with redundancy = {r}: "
                f"some would hold no samples. Use redundancy = {-(-num_workers // num_classes)} or at most "
                f"{places} workers."
            )
        if k is not None and k * num_workers != places:
            problem = "some classes would go unused" if k * num_workers < places else "there are too few classes"
            raise ValueError(
                f"{num_workers} workers with {k} classes each fill {k * num_workers} places, but "
                f"{num_classes} classes with redundancy = {r} have {places}: {problem}. "
                f"{self._mending(num_classes, num_workers)}"
            )

    def _mending(self, num_classes: int, num_workers: int) -> str:
        k, places = self.classes_per_worker or 1, num_classes * self.redundancy
        ways = ["leave classes_per_worker out, which spreads the classes as evenly as possible"]
        if places % num_workers == 0:
            ways.append(f"use classes_per_worker = {places // num_workers}")
        if k * num_workers % num_classes == 0:
            ways.append(f"use redundancy = {k * num_workers // num_classes}")
        if places % k == 0:
            ways.append(f"use {places // k} workers")
        return "To mend it, " + ", or ".join(ways) + "."


SAMPLES = (ByClass(), ByClass(redundancy=3), ByClass(2), ByClass(4, 2))
