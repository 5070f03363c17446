"""One core, no deadlines, the same examples every time, and Ctrl-C heard."""

import signal

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("gradvote", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("gradvote")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def generator() -> torch.Generator:
    """Random test data; not the library's randomness."""
    return torch.Generator().manual_seed(0)
