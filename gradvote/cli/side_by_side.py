"""Several runs at a time, each in a process and on a thread of its own."""

import multiprocessing
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from gradvote.cli.ranks import Ended
from gradvote.cli.watch import columns, news_of
from gradvote.train import Config, RunFolder, start
from gradvote.train.config import from_json
from gradvote.train.interrupt import ctrl_c_calls

News = tuple[str, int, dict[str, Any] | None]


def train_side_by_side(configs: Mapping[Path, Config], console: Console, jobs: int, command: str) -> list[Ended]:
    """Train each config in its folder, `jobs` at a time, with a progress bar for each; an earlier run is replaced.

    Ctrl-C ends every run after the step it is in.
    """
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ctrl_c_calls(lambda: None), ProcessPoolExecutor(jobs, context) as pool:
        news = manager.Queue()
        work = [pool.submit(_work, c.to_json(), str(f), command, news) for f, c in configs.items()]
        _show(configs, work, news, console)
        outcomes = [future.result() for future in work]
    return [
        Ended(RunFolder(folder), config, folder.name, *outcome)
        for (folder, config), outcome in zip(configs.items(), outcomes, strict=True)
    ]


def _show(configs: Mapping[Path, Config], work: Sequence[Future[Any]], news: Any, console: Console) -> None:
    with Progress(*columns(), console=console) as bar:
        tasks = {f.name: bar.add_task(f.name, total=c.steps, news="", rate="", start=False) for f, c in configs.items()}
        while not (all(future.done() for future in work) and news.empty()):
            try:
                label, step, record = news.get(timeout=0.2)
            except queue.Empty:
                continue
            task = tasks[label]
            bar.start_task(task)
            speed = bar.tasks[task].speed
            bar.update(task, completed=step, rate=f"{speed:.0f}/s" if speed else "")
            if record is not None:
                bar.update(task, news=news_of(record))


def _work(config_json: str, folder: str, command: str, news: Any) -> tuple[str, str]:
    torch.set_num_threads(1)
    place = Path(folder)
    run = start(from_json(config_json), place, overwrite=True, command=command, label=place.name)
    run.train(_teller(place.name, max(1, run.config.steps // 50), news.put))
    return run.status, run.message


def _teller(label: str, every: int, tell: Callable[[News], None]) -> Callable[[int, dict[str, Any] | None], None]:
    def progress(step: int, record: dict[str, Any] | None) -> None:
        if record is not None or step % every == 0:
            tell((label, step, record))

    return progress
