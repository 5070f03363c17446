"""The library against a transcription, over rounds with real bytes between the workers and the server."""

from typing import Protocol

import torch

from gradvote.core import Algorithm
from tests.papers.shared import NUMELS, Tensors, gradients
from tests.rounds import Rounds

WORKERS = (1, 3, 4, 5)
CASES = [*[(m, "random") for m in WORKERS], (4, "positive"), (4, "abstain")]
"""Numbers of workers, and what the sign of an exact zero is."""
RATES = (0.1,) * 4 + (0.05,) * 3 + (0.03,) * 4 + (0.2,) * 3
BINARY_RATES = (0.125,) * 4 + (0.03125,) * 3 + (0.0625,) * 4 + (0.5,) * 3
FEW = (0.1, 0.1, 0.1, 0.05, 0.2)


class Paper(Protocol):
    """A transcription: one step of all workers and the server."""

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        """What x moves along: x ← x − lr·direction."""


def assert_same(algorithm: Algorithm, paper: Paper, num_workers: int, rates: tuple[float, ...] = RATES) -> Rounds:
    """Every direction is the transcription's, bit for bit; returns the library's side after the last round."""
    rounds = Rounds(algorithm, NUMELS, num_workers)
    for t, (g, lr) in enumerate(zip(gradients(num_workers, len(rates)), rates, strict=True)):
        ours, theirs = rounds.step(g, t, lr), paper.step(g, t, lr)
        for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            same = bits(a) == bits(b)
            assert bool(same.all()), f"step {t}, tensor {k}: {a[~same][:5]} instead of {b[~same][:5]}"
    return rounds


def assert_equal(ours: Tensors, theirs: Tensors) -> None:
    """The same bits, tensor by tensor."""
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(bits(a), bits(b))


def bits(x: torch.Tensor) -> torch.Tensor:
    """The bit patterns, with −0 as 0."""
    return (x + 0.0).view(torch.int32)
