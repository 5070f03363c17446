"""Local processes, one per rank, joined in a gloo group.

They meet by a file in a folder of their user alone: a store with a port would hear anyone.
"""

import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import multiprocessing as mp
from torch.distributed import FileStore  # type: ignore[attr-defined]  # documented, but not in torch's `__all__`

from gradvote.engines.common.signals import deaf_children, end_with_parent, signals_call
from gradvote.errors import WorkerFailed

GRACE, LEAVING, TAKING_APART = 10.0, 1.0, 0.2
"""Seconds for the others after a failure; for processes that end; for those that have answered and were asked to."""
T = TypeVar("T")


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: str = ""
    victim: bool = False


@dataclass
class _Ranks:
    """The processes, and whether they were asked to stop."""

    processes: list[Any] = field(default_factory=list)
    asked: bool = False

    def stop(self) -> None:
        """Ask each of them once."""
        if not self.asked:
            self.asked = True
            for process in self.processes:
                process.terminate()

    def end(self, patience: float) -> None:
        """Wait for them so long, then end them."""
        for end_of in ("terminate", "kill"):
            until = time.monotonic() + patience
            for process in self.processes:
                process.join(max(until - time.monotonic(), 0.0))
                if process.is_alive():
                    getattr(process, end_of)()
            patience = LEAVING


def spawn(
    fn: Callable[..., T],
    num_ranks: int,
    *args: object,
    timeout: float = 300.0,
    threads: int = 1,
    graceful: bool = False,
) -> list[T]:
    """The results of `fn(*args)` in `num_ranks` processes with torch.distributed set up, in order of their ranks.

    `fn` and its arguments must be picklable. `timeout` (seconds) is that of the group. When a rank fails, the others
    have a moment to end by themselves and are then ended; so do all of them when this process ends, however it ends.
    Ctrl-C ends them. With `graceful` (in the main thread), SIGTERM or Ctrl-C gives each of them a SIGTERM, once, upon
    which `fn` should soon return; a second one ends them.

    Raises:
        KeyboardInterrupt: Ctrl-C; with `graceful`, only where not all have returned.
        ValueError: there is no process to start, or `fn` is nothing that a new process could import.
        WorkerFailed: a rank raised an exception or died; where several did, the one that was at fault.
    """
    if num_ranks < 1:
        raise ValueError(f"There must be at least one process; got {num_ranks}.")
    _check_importable(fn)
    ranks, ends = _Ranks(), list[Connection]()
    patience = 0.0
    with tempfile.TemporaryDirectory(prefix="gradvote-", ignore_cleanup_errors=True) as folder, ExitStack() as signals:
        if graceful:
            signals.enter_context(signals_call(ranks.stop))
        try:
            for rank in range(num_ranks):
                ends.append(_started(ranks, rank, num_ranks, f"{folder}/store", timeout, threads, fn, args))
            outcomes = _collect(ends, ranks)
            patience = TAKING_APART if ranks.asked else LEAVING
        finally:
            ranks.end(patience)
    _raise_first(outcomes, ranks)
    return [outcomes[rank].value for rank in range(num_ranks)]


def _check_importable(fn: Callable[..., object]) -> None:
    """New processes import a function by its name: one of a notebook, of stdin, or within another one has no place."""
    name, home = getattr(fn, "__qualname__", repr(fn)), getattr(fn, "__module__", None)
    file = getattr(sys.modules["__main__"], "__file__", None)
    typed = home == "__main__" and not (file and Path(file).exists())
    try:
        pickle.dumps(fn)
    except (AttributeError, TypeError, pickle.PicklingError):
        typed = True
    if typed:
        raise ValueError(
            f"spawn starts new processes, which import what they run, but {name} cannot be imported: it is a lambda, "
            "stands within another function, or was typed into a notebook, a shell or stdin. Put it at the top of a "
            "file, and import it from there."
        )


def _started(ranks: _Ranks, *job: Any) -> Connection:
    """Start a process, unless all were asked to stop before it was there; the end of its pipe."""
    context = mp.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    with there, deaf_children():
        process = context.Process(target=_child, args=(there, *job), daemon=False)
        process.start()
    ranks.processes.append(process)
    if ranks.asked:
        process.terminate()
    return here


def _child(
    end: Connection,
    rank: int,
    num_ranks: int,
    path: str,
    timeout: float,
    threads: int,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    end_with_parent()
    try:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(num_ranks), LOCAL_RANK=str(rank))
        torch.set_num_threads(threads)
        limit = timedelta(seconds=timeout)
        store = FileStore(path, num_ranks)
        store.set_timeout(limit)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=num_ranks, timeout=limit)
        _send(end, _Outcome(fn(*args)))
        dist.destroy_process_group()
    except KeyboardInterrupt:
        _send(end, _Outcome(error="interrupted", victim=True))
    except BaseException as error:
        _send(end, _Outcome(error=traceback.format_exc(), victim=_is_victim(error)))


def _send(end: Connection, outcome: _Outcome) -> None:
    """By value: tensors that torch's own pickler shares would end with this process."""
    end.send_bytes(pickle.dumps(outcome))


def _is_victim(error: BaseException) -> bool:
    """Whether an error only tells of another rank's failure."""
    from gradvote.engines.distributed import ExchangeError  # noqa: PLC0415  # a spawned process imports this file first

    told = ExchangeError.__name__, "gloo/transport"
    return isinstance(error, ExchangeError | dist.DistError) or any(text in str(error) for text in told)


def _collect(ends: list[Connection], ranks: _Ranks) -> dict[int, _Outcome]:
    outcomes: dict[int, _Outcome] = {}
    deadline: float | None = None
    while len(outcomes) < len(ends):
        pending = [end for rank, end in enumerate(ends) if rank not in outcomes]
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        ready = wait(pending, left)
        if not ready:
            break
        for end in ready:
            rank = ends.index(end)  # type: ignore[arg-type]  # `wait` gives back what it was given
            outcomes[rank] = _outcome_of(ends[rank], rank, ranks.processes[rank])
            if outcomes[rank].error and deadline is None:
                deadline = time.monotonic() + (LEAVING if ranks.asked else GRACE)
    return outcomes


def _outcome_of(end: Connection, rank: int, process: Any) -> _Outcome:
    try:
        outcome: _Outcome = pickle.loads(end.recv_bytes())
        return outcome
    except EOFError:
        process.join()
        return _Outcome(error=f"The process of rank {rank} ended with exit code {process.exitcode}.")


def _raise_first(outcomes: dict[int, _Outcome], ranks: _Ranks) -> None:
    failed = {rank: o for rank, o in outcomes.items() if o.error}
    if ranks.asked and (failed or len(outcomes) < len(ranks.processes)):
        raise KeyboardInterrupt
    if failed:
        rank = min(failed, key=lambda r: (failed[r].victim, r))
        raise WorkerFailed(f"Rank {rank} failed:\n\n{failed[rank].error}")
