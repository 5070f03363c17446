"""Thousands of calls keep no memory: what the process holds after a warm-up is what it holds at the end."""

from pathlib import Path

import pytest
import torch

from gradvote import kernels

STATUS = Path("/proc/self/statm")
PAGE = 4096


def held() -> int:
    """Bytes of resident memory."""
    return int(STATUS.read_text().split()[1]) * PAGE


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
def test_votes_and_medians_keep_no_memory() -> None:
    words = torch.randint(-(2**63), 2**63 - 1, (6, 4, 512))
    x, weights = torch.randn(6, 4, 2000), torch.rand(6)
    everyone = torch.ones(6, 4, dtype=torch.bool)
    some = torch.arange(24).reshape(6, 4) % 5 > 0

    def rounds(number: int) -> None:
        for _ in range(number):
            for valid in (everyone, some):
                kernels.majority(words, words, valid, words[0])
                kernels.majority(words, None, valid, words[0])
                kernels.median(x, valid)
                kernels.trimmed_mean(x, valid, 1)
                kernels.mean(x, valid, weights)

    rounds(20)
    before = held()
    rounds(150)
    assert held() - before < 4 << 20
