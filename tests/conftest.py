"""One core, no deadlines, the same examples every time, Triton interpreted, and Ctrl-C heard."""

import gc
import os
import signal

import pytest
import torch
from hypothesis import settings

if "GRADVOTE_TEST_DEVICE" not in os.environ:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
torch.set_num_threads(1)
settings.register_profile("gradvote", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("gradvote")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What is imported by now need not be searched again, by the collector and by engines for live modules."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def generator() -> torch.Generator:
    """Random test data; not the library's randomness."""
    return torch.Generator().manual_seed(0)
