"""Memory that was not written holds NaN (or the largest integer), so that reading it shows."""

from collections.abc import Iterator

import pytest
import torch

from tests.on_card import begin

begin()


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)
