"""Law 6: the same bits, whatever type and device a script has set for the tensors that it makes itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation

M, STEPS, SHAPES = 4, 2, ((5, 64), (130,), (3, 7), (1,))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS: dict[str, Callable[[], object]] = {
    "float64": partial(default_dtype, torch.float64),
    "bfloat16": partial(default_dtype, torch.bfloat16),
    "another device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def states(simulation: Simulation) -> list[Tensor]:
    """Memories and momenta, and all that is in them."""
    return [t for side in (simulation.workers, simulation.server) for state in side for t in tensors(state)]


def tensors(state: object) -> list[Tensor]:
    if isinstance(state, dict):
        return [t for own in state.values() for t in tensors(own)]
    return [state] if isinstance(state, Tensor) else []


@pytest.fixture(scope="module")
def gradients() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = sum(torch.Size(shape).numel() for shape in SHAPES)
    return [torch.randn(M, size, generator=generator) for _ in range(STEPS)]


def run(name: str, gradients: list[Tensor], params: list[Tensor]) -> list[Tensor]:
    simulation = Simulation(protocol_for(params, algorithms.create(name), 3), M)
    directions = [simulation.step(g, k, 0.1).clone() for k, g in enumerate(gradients)]
    return [*directions, *states(simulation)]


@pytest.mark.parametrize("name", algorithms.names())
def test_what_a_script_sets_for_its_own_tensors_changes_no_bit(name: str, gradients: list[Tensor]) -> None:
    params = [torch.zeros(shape) for shape in SHAPES]
    expected = run(name, gradients, params)
    for setting, enter in SETTINGS.items():
        with enter():  # type: ignore[attr-defined]  # context managers of several kinds
            found = run(name, gradients, params)
        for a, b in zip(expected, found, strict=True):
            assert a.dtype == b.dtype and a.device == b.device and torch.equal(a, b), setting
