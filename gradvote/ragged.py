"""The blocks of a layout as rows of unequal length: what work on all of them at once needs to know of each.

The flat vector (d,) holds the rows behind each other, longest first, and so do the words that packed signs become. So a
kernel with a table of where each row begins does in one call what groups of equal rows take a call each for, and what
parts see of a group is a view of the one result. B rows of n_b coordinates, W_b words and U_b words of marked units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote.nouns import Units
from gradvote.staging import to_device

Numbers = NDArray[np.int64]
WORD = 64
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of `lengths` coordinates (B,); `blocks` are their numbers, `groups` says where groups of equal rows begin.

    `units` are the lengths of their units of zeros, `phases` how far into one each begins (−1: all of a group do not
    say; they begin with one).
    """

    lengths: Numbers
    blocks: Numbers
    owners: Numbers
    units: Numbers
    phases: Numbers
    groups: Numbers

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.lengths)

    @cached_property
    def size(self) -> int:
        """d, the coordinates of all rows."""
        return int(self.lengths.sum())

    @cached_property
    def longest(self) -> int:
        """The coordinates of the longest row."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def offsets(self) -> Numbers:
        """Where each row begins in the flat vector, and its end (B + 1,)."""
        return starts_of(self.lengths)

    @cached_property
    def words(self) -> Numbers:
        """Where the words of each row begin (B + 1,)."""
        return self.starts(WORD)

    @cached_property
    def unit_counts(self) -> Numbers:
        """The most units that each row can have, whatever its phase (`core.Units.count`)."""
        plain = -(-self.lengths // self.units)
        cut = np.where(self.lengths > 0, (self.lengths + self.units - 2) // self.units + 1, 0)
        return np.where(self.phases < 0, plain, cut)

    @cached_property
    def widths(self) -> Numbers:
        """The words of each row (B,)."""
        return np.diff(self.words)

    @cached_property
    def unit_widths(self) -> Numbers:
        """The words of each row that mark its units (B,)."""
        return -(-self.unit_counts // WORD)

    @cached_property
    def unit_words(self) -> Numbers:
        """Where the words of each row begin that mark its units (B + 1,)."""
        return starts_of(self.unit_widths)

    @cached_property
    def ones(self) -> tuple[Numbers, Numbers]:
        """Where one number of each row stands (B + 1,), and that it is one (B,)."""
        return np.arange(self.num_rows + 1, dtype=np.int64), np.ones(self.num_rows, np.int64)

    @cached_property
    def are_words(self) -> NDArray[np.bool_]:
        """Whether each unit of a row is one of its words (B,)."""
        found: NDArray[np.bool_] = (self.units == WORD) & (self.phases < 0)
        return found

    def units_on(self, device: torch.device) -> "list[Units]":
        """The units of zeros of each group, for work on a device."""
        if device not in self._units:
            with torch.inference_mode(False):
                phases = [torch.from_numpy(self.phases[a:b]) for a, b in pairwise(self.groups.tolist())]
            lengths = self.units[self.groups[:-1]].tolist()
            self._units[device] = [
                Units(length, None if int(own[0]) < 0 else to_device(own, device))
                for length, own in zip(lengths, phases, strict=True)
            ]
        return self._units[device]

    @cached_property
    def _units(self) -> "dict[torch.device, list[Units]]":
        return {}

    @cached_property
    def block(self) -> Tensor:
        """The numbers of the blocks, as a tensor (B,)."""
        with torch.inference_mode(False):
            return torch.from_numpy(self.blocks)

    @cached_property
    def owner(self) -> Tensor:
        """The parameters of the blocks, as a tensor (B,)."""
        with torch.inference_mode(False):
            return torch.from_numpy(self.owners)

    def cut(self, size: int) -> "list[tuple[int, int, Ragged]]":
        """Runs of whole rows of at most so many coordinates, or of one row: the first, the end, and the rows."""
        if size not in self._cut:
            ends, first, found = self.offsets[1:], 0, []
            while first < self.num_rows:
                end = max(int(np.searchsorted(ends, self.offsets[first] + size, "right")), first + 1)
                found.append((first, end, self._some(first, end)))
                first = end
            self._cut[size] = found
        return self._cut[size]

    @cached_property
    def _cut(self) -> "dict[int, list[tuple[int, int, Ragged]]]":
        return {}

    def _some(self, first: int, end: int) -> "Ragged":
        about = (self.lengths, self.blocks, self.owners, self.units, self.phases)
        lengths, blocks, owners, units, phases = (own[first:end] for own in about)
        inside = self.groups[(self.groups > first) & (self.groups < end)] - first
        return Ragged(lengths, blocks, owners, units, phases, numbers([0, *inside.tolist(), end - first]))

    def starts(self, group: int) -> Numbers:
        """Where each row begins (B + 1,), counted in groups of so many coordinates; none is in two rows."""
        if group not in self._starts:
            self._starts[group] = starts_of(-(-self.lengths // group))
        return self._starts[group]

    @cached_property
    def _starts(self) -> dict[int, Numbers]:
        return {}

    @cached_property
    def tails(self) -> tuple[Numbers, Numbers]:
        """The words that are filled in part only, and the bits in them that belong to their rows."""
        left = self.lengths % WORD
        short = left > 0
        return (self.words[1:] - 1)[short], (np.int64(1) << left[short]) - 1

    def wide(self, values: Tensor) -> Tensor:
        """A value of each row (B,) for each of its coordinates (d,): on a card too, without waiting for it."""
        pairs = pairwise(self.groups.tolist())
        return torch.cat([values[a:b, None].expand(b - a, int(self.lengths[a])).reshape(-1) for a, b in pairs])

    def kept(self, key: object, made: "Callable[[], T]") -> T:
        """What is made once and kept with these rows, such as their tables on a card."""
        if key not in self._kept:
            with torch.inference_mode(False):
                self._kept[key] = made()
        found: T = self._kept[key]
        return found

    @cached_property
    def _kept(self) -> dict[object, Any]:
        return {}

    def of_words(self, values: NDArray[np.bool_]) -> Numbers:
        """Words (..., W) with all bits set in the rows (..., B) where a flag is, none elsewhere."""
        wide = np.repeat(values, np.diff(self.words), axis=-1)
        return -wide.astype(np.int64)


@dataclass(frozen=True, eq=False)
class RaggedPlane:
    """A plane of a payload of all rows: where each row begins (B + 1,), and how many of its items travel (..., B)."""

    name: str
    dtype: torch.dtype
    starts: Numbers
    lengths: Numbers

    def rectangle(self, plane: Tensor, first: int, last: int) -> Tensor:
        """Rows of a group, which have room for as many items, as a view (..., B, row) as wide as the longest."""
        begin, end = int(self.starts[first]), int(self.starts[last])
        lines: Tensor = plane[..., begin:end].unflatten(-1, (last - first, (end - begin) // (last - first)))
        return lines[..., : int(self.lengths[..., first:last].max(initial=0))]

    def some(self, first: int, last: int) -> "RaggedPlane":
        """That of rows which follow on each other, from the `first` to the one before the `last`."""
        starts = self.starts[first : last + 1] - self.starts[first]
        return RaggedPlane(self.name, self.dtype, starts, self.lengths[..., first:last])

    def of_sender(self, i: int) -> "RaggedPlane":
        """That of one of several senders, where they differ."""
        own = self.lengths if self.lengths.ndim == 1 else self.lengths[i]
        return RaggedPlane(self.name, self.dtype, self.starts, own)


def starts_of(sizes: Numbers) -> Numbers:
    """Where things of these sizes begin that stand behind each other, and where the last ends."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))


def numbers(values: Sequence[int]) -> Numbers:
    """An array of them."""
    return np.asarray(values, dtype=np.int64)
