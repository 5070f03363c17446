"""Several runs at a time, each in a process and on a thread of its own."""

import multiprocessing
import queue
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import Progress

from gradvote.engines.common.signals import deaf_children, end_with_parent, signals_call
from gradvote.lab.cli.showing import Ended
from gradvote.lab.cli.watch import columns, news_of
from gradvote.lab.train import Config, Run, RunFolder, start
from gradvote.lab.train.config import from_json

News = tuple[str, int, dict[str, Any] | None]
Outcome = tuple[str, str] | None
OFTEN = 0.2
"""Seconds between two words of a run."""


class Crew:
    """`jobs` processes that train runs in the order in which they were submitted; a context manager.

    Ctrl-C or SIGTERM ends every run after the step it is in, and those that have not begun never will; a second one
    ends all at once. Where this process is killed, the runs end after their steps, too.
    """

    def __init__(self, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._news: multiprocessing.Queue[News] = context.Queue()
        self._stopped = context.Event()
        self._pool = ProcessPoolExecutor(jobs, context, _begin, (self._news, self._stopped))
        self._configs: dict[Path, Config] = {}
        self._work: dict[Path, Future[Outcome]] = {}
        self._latest: dict[str, tuple[int, dict[str, Any] | None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        asked_before = self._stopped.is_set()
        if kind is not None:
            self._stopped.set()
        if kind is not None and asked_before:
            for process in dict(self._pool._processes).values():  # `kill_workers` is newer than Python 3.13
                process.kill()
        self._pool.shutdown(cancel_futures=True)

    def submit(self, configs: Mapping[Path, Config], command: str) -> None:
        """Have each config trained in its folder; an earlier run there is replaced."""
        self._configs |= configs
        with deaf_children():
            for folder, config in configs.items():
                self._work[folder] = self._pool.submit(_train, config.to_json(), str(folder), command)

    def watch(self, folders: Iterable[Path], console: Console) -> list[Ended]:
        """Show a progress bar for each of these runs until all have ended; those that never began are left out."""
        chosen = {folder: self._work[folder] for folder in folders}
        with signals_call(self._cancel):
            self._show(chosen, console)
        outcomes = {folder: _outcome(future) for folder, future in chosen.items()}
        return [
            Ended(RunFolder(folder), self._configs[folder], folder.name, *outcome)
            for folder, outcome in outcomes.items()
            if outcome is not None
        ]

    def _cancel(self) -> None:
        self._stopped.set()
        for future in self._work.values():
            future.cancel()

    def _show(self, chosen: Mapping[Path, Future[Outcome]], console: Console) -> None:
        with Progress(*columns(), console=console) as bar:
            tasks = {
                str(f): bar.add_task(f.name, total=self._configs[f].steps, news="", rate="", start=False)
                for f in chosen
            }
            while True:
                ended = all(future.done() for future in chosen.values())
                while self._listen(0.0 if ended else OFTEN):
                    pass
                for folder, task in tasks.items():
                    self._update(bar, task, folder)
                if ended:
                    return

    def _listen(self, seconds: float) -> bool:
        """Whether there was news."""
        try:
            folder, step, record = self._news.get(timeout=seconds)
        except queue.Empty:
            return False
        known = self._latest.get(folder, (0, None))[1]
        self._latest[folder] = step, known if record is None else record
        return True

    def _update(self, bar: Progress, task: Any, folder: str) -> None:
        if folder not in self._latest:
            return
        step, record = self._latest[folder]
        bar.start_task(task)
        speed = bar.tasks[task].speed
        news = "" if record is None else news_of(record)
        bar.update(task, completed=step, rate=f"{speed:.0f}/s" if speed else "", news=news)


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except (CancelledError, BrokenProcessPool):
        if future.cancelled():
            return None
        raise


_SHARED: "tuple[multiprocessing.Queue[News], Event] | None" = None


def _begin(news: "multiprocessing.Queue[News]", stopped: Event) -> None:
    """What a process of the crew knows before it gets work."""
    global _SHARED  # noqa: PLW0603  # a pool has no other way to hand a queue to its work
    _SHARED = news, stopped
    end_with_parent()
    torch.set_num_threads(1)


def _train(config_json: str, folder: str, command: str) -> Outcome:
    assert _SHARED is not None
    news, stopped = _SHARED
    if stopped.is_set():
        return None
    run = start(from_json(config_json), Path(folder), overwrite=True, command=command, label=Path(folder).name)
    run.train(_teller(run, folder, news.put, stopped))
    return run.status, run.message


def _teller(
    run: Run, folder: str, tell: Callable[[News], None], stopped: Event
) -> Callable[[int, dict[str, Any] | None], None]:
    """Tells of a run a few times a second, and ends it where it should."""
    told = 0.0

    def progress(step: int, record: dict[str, Any] | None) -> None:
        nonlocal told
        if record is not None or time.monotonic() - told > OFTEN:
            told = time.monotonic()
            tell((folder, step, record))
            if stopped.is_set():
                run.stop()

    return progress
