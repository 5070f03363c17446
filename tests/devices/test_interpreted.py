"""Whole steps with the kernels of a card, interpreted here: no copies of gradients, and the bits of the definitions."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import kernels
from gradvote.core import Algorithm
from gradvote.distributed import Exchange
from gradvote.engines.common import flat_buffer
from tests.contract.parts import ALGORITHMS

pytest.importorskip("triton", reason="the kernels for CUDA are written in Triton, which is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter

SHAPES = ((3, 33), (66,), (130,), (2, 3, 2, 2), (64,))
STEPS = 2
NAMES = ("signsgd", "signum", "lion", "noisy-signsgd", "dist-ef-sgdm", "dist-ef-adam", "dropsignsgd")


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradient(i: int, step: int, shape: tuple[int, ...]) -> Tensor | None:
    """One of a parameter: with zeros, a missing one, one that is not finite, one of another memory format."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(10 * step + i))
    if i == 1 and step == 1:
        return None
    if i == 2:
        x[step] = torch.nan
    if i == 0:
        x[1] = 0
    return x.to(memory_format=torch.channels_last) if len(shape) == 4 else x


def parameters(algorithm: Algorithm, dtype: torch.dtype, missing: bool) -> list[Tensor]:
    """Those after some steps."""
    params = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in SHAPES]
    optimizer = torch.optim.SGD(params, 0.1)
    exchange = Exchange(params, algorithm, optimizer=optimizer, seed=3, chunks=1)
    for step in range(STEPS):
        for i, p in enumerate(params):
            own = gradient(i, step if missing else 0, tuple(p.shape))
            p.grad = None if own is None else own.to(dtype)
        exchange.step()
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("name", [name for name in NAMES if name in ALGORITHMS])
@pytest.mark.parametrize("missing", [False, True])
def test_a_step(name: str, missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run = partial(parameters, ALGORITHMS[name], torch.bfloat16 if name == "signum" else torch.float32, missing)
    with kernels.definitions(1):
        expected = run()
    seen = _as_on_a_card(monkeypatch)
    found = run()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert any(name.startswith("ragged") for name in seen)


def _as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Have tensors of the CPU go to the kernels of a card; the names of those that are used."""
    fast, seen = kernels._fast.__wrapped__, set[str]()

    def of_a_card(device: str, name: str) -> object:
        seen.add(name)
        return fast("cuda", name)

    monkeypatch.setattr(kernels, "_fast", of_a_card)
    monkeypatch.setattr(kernels, "_can_compile", lambda *given: True)
    monkeypatch.setattr(flat_buffer, "reads_scattered", lambda *given: True)
    return seen
