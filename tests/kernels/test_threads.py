"""The split covers its range exactly, in as many parts as torch has threads, and survives a fork."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote.kernels.cpu.threads import split


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@given(total=st.integers(0, 1000), grain=st.integers(1, 300), num_threads=st.integers(1, 5))
def test_parts_cover_the_range_once(total: int, grain: int, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    parts: list[tuple[int, int]] = []
    split(lambda start, stop: parts.append((start, stop)), total, grain)
    parts.sort()
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(total))
    assert len(parts) == max(1, min(num_threads, total // grain))


def test_a_small_range_stays_on_the_calling_thread() -> None:
    torch.set_num_threads(2)
    seen = []
    split(lambda start, stop: seen.append(threading.current_thread()), 99, grain=50)
    assert seen == [threading.current_thread()]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_any_part_is_raised(failing: int) -> None:
    torch.set_num_threads(2)

    def work(start: int, stop: int) -> None:
        if start == failing * 5:
            raise RuntimeError("part failed")

    with pytest.raises(RuntimeError, match="part failed"):
        split(work, 10, grain=1)


FORK = """
import os, torch
from gradvote.kernels.cpu.threads import split
torch.set_num_threads(2)
done = []
split(lambda a, b: done.append(b - a), 10, 1)
child = os.fork()
split(lambda a, b: done.append(b - a), 10, 1)
assert sum(done) == 20, done
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_a_forked_child_starts_its_own_threads() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)
