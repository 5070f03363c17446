"""Splits a range of work over `torch.get_num_threads()` threads; compiled kernels release the interpreter lock.

A small pool of our own, and not numba's `prange`: its threading layers abort the process when two threads enter them at
once or when a forked child does, and both happen under `torch.distributed`.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

GRAIN = 1 << 16
"""Coordinates below which a second thread costs more than it saves."""

_pool: ThreadPoolExecutor | None = None
_workers = 0


def split(work: Callable[[int, int], object], total: int, grain: int = GRAIN) -> None:
    """Calls `work(start, stop)` on consecutive parts of [0, total), one per thread, each of about `grain` or more.

    Returns when all parts are done; the first error of a part is raised.
    """
    most = total // max(grain, 1)
    parts = 1 if most < 2 else min(torch.get_num_threads(), most)
    if parts == 1:
        work(0, total)
        return
    bounds = [total * part // parts for part in range(parts + 1)]
    pool = _pool_of(parts - 1)
    others = [pool.submit(work, bounds[part], bounds[part + 1]) for part in range(1, parts)]
    try:
        work(0, bounds[1])
    finally:
        for other in others:
            other.exception()
    for other in others:
        other.result()


def _pool_of(workers: int) -> ThreadPoolExecutor:
    global _pool, _workers
    if _pool is None or _workers < workers:
        _pool, _workers = ThreadPoolExecutor(workers, thread_name_prefix="gradvote"), workers
    return _pool


def _forget() -> None:
    """Threads do not survive a fork: the child starts its own."""
    global _pool, _workers
    _pool, _workers = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
