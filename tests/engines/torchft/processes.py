"""Replica groups as processes of their own under a real lighthouse, to be killed, stopped and started again."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchft.coordination import LighthouseServer

from tests.engines.elastic.processes import FORKS, Processes
from tests.engines.torchft.worker import work


class Replicas(Processes):
    """As `Processes`; each of the `algorithms`, played one after another, has a lighthouse of its own."""

    def __init__(
        self, folder: Path, num: int, min_workers: int, steps: int, algorithms: tuple[str, ...], **options: Any
    ) -> None:
        super().__init__(folder, num, min_workers, steps, **options)
        times = {"join_timeout_ms": 200, "quorum_tick_ms": 20, "heartbeat_timeout_ms": 600}
        self.houses = {name: LighthouseServer("127.0.0.1:0", min_workers, **times) for name in algorithms}

    def start(self, worker: int, **options: Any) -> None:
        self.lives[worker] = self.lives.get(worker, -1) + 1
        own = {**self.options, **self.options.get("each", {}).get(worker, {}), **options, "life": self.lives[worker]}
        houses = {name: local(house.address()) for name, house in self.houses.items()}
        process = FORKS.Process(target=work, args=(str(self.folder), houses, worker, self.steps, own))
        process.start()
        self.processes[worker] = process


def local(address: str) -> str:
    """A lighthouse names its machine, which need not be known by that name."""
    return address.replace(f"//{os.uname().nodename}:", "//127.0.0.1:")


@contextlib.contextmanager
def replicas(
    folder: Path,
    num: int,
    min_workers: int,
    steps: int,
    algorithms: tuple[str, ...] = ("dist-ef-sgdm",),
    **options: Any,
) -> Iterator[Replicas]:
    """Running replicas, none of which outlives the test."""
    own = Replicas(folder, num, min_workers, steps, algorithms, **options)
    try:
        for worker in range(num):
            own.start(worker)
        yield own
    finally:
        own.end()
        for house in own.houses.values():
            house.shutdown()
