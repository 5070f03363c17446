"""Triton's kernels run here in its interpreter, on CPU tensors (`tests/conftest.py` says so before Triton is imported).

With GRADVOTE_TEST_DEVICE=cuda they run on the card; `benchmarks/gpu.py` does that.
"""

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("triton", reason="the kernels for CUDA are written in Triton, which is not installed")


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fresh memory holds rubbish."""
    empty = torch.empty

    def rubbish(*size: int, **how: torch.dtype) -> torch.Tensor:
        fresh = empty(*size, **how)
        return fresh.fill_(torch.nan if fresh.is_floating_point() else fresh.dtype != torch.bool and 0x5A)

    monkeypatch.setattr(torch, "empty", rubbish)
    monkeypatch.setattr(torch, "empty_like", lambda x: rubbish(*x.shape, dtype=x.dtype, device=x.device))
    yield
