"""Majority vote over M packed ballots: `reference.majority` on the CPU."""

import numpy as np
import torch
from torch import Tensor

from gradvote.kernels.cpu.ballots import CHUNK, LANES, TILE, shape, tally, vote
from gradvote.kernels.cpu.rows import Group, groups, streamable
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split

LIMIT = 24
"""Inputs up to which a count of its own is compiled: with more, the hardware loses track of the rows."""
PART = 1 << 20
"""Bytes of input that are worth a thread."""

Addresses = tuple[int | None, int, int]
_SILENCE = np.zeros(TILE + 2 * LANES, np.int64)


def majority(words: Tensor, counted: Tensor | None, valid: Tensor, ties: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.majority`; where nothing can tie, `tied` is one zero seen in the full shape, not to be written to."""
    if not words[0].numel():
        return torch.zeros_like(words[0]), torch.zeros_like(words[0])
    *leading, width = words.shape[1:]
    full = (*leading, max(width, LANES))
    inputs = [streamable(x, LANES) for x in ([words] if counted is None else [words, counted.expand_as(words)])]
    parts = groups(inputs, valid.expand(words.shape[:-1]))
    can_tie = [_can_tie(part, len(inputs)) for part in parts]
    won, tied = spare.empty(full, torch.int64), _new_ties(full, can_tie)
    ties = streamable(ties.expand(words.shape[1:]), LANES).contiguous() if any(can_tie) else tied
    for index, part in enumerate(parts):
        results = (ties.data_ptr() if can_tie[index] else None, won.data_ptr(), tied.data_ptr())
        _run(part, len(inputs), results, often=index == 0)
    return (won, tied) if width >= LANES else (won[..., :width].contiguous(), tied[..., :width].contiguous())


def _new_ties(full: tuple[int, ...], can_tie: list[bool]) -> Tensor:
    if all(can_tie):
        return spare.empty(full, torch.int64)
    return torch.zeros(full if any(can_tie) else (), dtype=torch.int64, device="cpu").expand(full)


def _can_tie(part: Group, streams: int) -> bool:
    return streams == 2 or part.count % 2 == 0


def _run(part: Group, streams: int, results: Addresses, often: bool) -> None:
    """A count compiled for the number of workers that most rows have, one for any number for the others."""
    num_inputs, units = part.count * streams, len(part.places) * -(-part.width // TILE)
    compiled = often and 0 < num_inputs <= LIMIT
    run = _run_vote if compiled else _run_tally
    grain = -(-PART // (8 * TILE * max(num_inputs, 1)))
    split(lambda start, stop: run(part, streams, results, start, stop), units, grain)


def _run_vote(part: Group, streams: int, results: Addresses, start: int, stop: int) -> None:
    vote(shape(part.count, streams), part.table, part.places, part.width, *results, start, stop)


def _run_tally(part: Group, streams: int, results: Addresses, start: int, stop: int) -> None:
    num_inputs = part.count * streams
    padded = num_inputs + -num_inputs % CHUNK
    threshold = (padded if streams == 2 else part.count) // 2 + 1
    planes = padded.bit_length() + 1
    initial = np.array([-((2 ** (planes - 1) - threshold) >> plane & 1) for plane in range(planes)])
    counter = np.empty((planes, TILE), np.int64)
    rows = np.full(padded, _SILENCE.ctypes.data + 8 * LANES)
    buffers = ((None,) * planes, initial, counter, rows)
    tally(shape(CHUNK // streams, streams), *buffers, part.table, part.places, part.width, *results, start, stop)
