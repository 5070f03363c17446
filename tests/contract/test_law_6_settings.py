"""Law 6: the same bits, whatever type and device a script has set for the tensors that it makes itself."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gradvote
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


MAKERS = {"zeros", "ones", "empty", "full", "tensor", "arange", "linspace", "as_tensor", "asarray", "eye", "randperm"}
OF_FLOATS = {"zeros", "ones", "empty", "linspace"}
ROOMS = ("aggregators", "algorithms", "codecs", "engines", "faults", "kernels", "privacy", "transforms")


def test_every_tensor_that_is_made_names_its_device_and_its_type() -> None:
    """What a call leaves open, a script's defaults decide: on a card of its own, or in half the bits."""
    root, loose = Path(gradvote.__file__).parent, []
    files = [*root.glob("*.py"), *(path for room in ROOMS for path in (root / room).rglob("*.py"))]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or path.parent.name == "cuda":
                continue
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            if of_torch and node.func.attr in MAKERS:
                told = {keyword.arg for keyword in node.keywords}
                needed = {"device", "dtype"} if node.func.attr in OF_FLOATS else {"device"}
                loose += [f"{path.relative_to(root)}:{node.lineno}"] if needed - told else []
    assert loose == []


UNSURE = {
    "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log1p", "pow", "sin", "cos", "tan", "tanh", "sigmoid",
    "erf", "erfinv", "norm", "vector_norm", "std", "var", "softmax", "matmul", "mm", "einsum", "cumprod",
}  # fmt: skip
VOTING = ("aggregators", "algorithms", "codecs", "transforms")


def test_no_number_of_a_round_comes_from_a_function_that_processors_round_differently() -> None:
    """PyTorch gives them to libraries that are off by a last bit, for other numbers on another processor.

    `kernels.sqrt` is exact; quantiles of noise are made of sums and products. Powers of Python's numbers are not meant.
    """
    root, found = Path(gradvote.__file__).parent, []
    for path in (path for room in VOTING for path in (root / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in UNSURE:
                exact = isinstance(node.func.value, ast.Name) and node.func.value.id in ("kernels", "math")
                found += [] if exact else [f"{path.relative_to(root)}:{node.lineno}: {node.func.attr}"]
    assert found == []
