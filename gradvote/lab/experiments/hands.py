"""One of the processes that measure: what it says while it works, and how it is told to stop."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Protocol

import torch

from gradvote.engines.common.signals import end_with_parent, interrupts
from gradvote.lab.experiments.claim import Cell, Claim
from gradvote.lab.experiments.records import Store

Tell = Callable[[int, int, str], None]
News = tuple[str, int, int, str]
"""Which measurement; at which step of how many, and what else is to be said."""
OFTEN = 0.2
"""Seconds between two words of a measurement."""


class Measure(Protocol):
    """Measures a group of cells, and saves their records."""

    def __call__(self, claim: Claim, group: Sequence[Cell], store: Store, tell: Tell) -> None: ...


def unheard(step: int, steps: int, note: str) -> None:
    """Nobody listens."""


class Hand:
    """This process: `news` goes to its parent, `stopped` comes from there."""

    def __init__(self, news: "multiprocessing.Queue[News]", stopped: Event) -> None:
        self.news, self.stopped, self._parent = news, stopped, multiprocessing.parent_process()
        self._lock, self._busy, self._told = threading.Lock(), False, False
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within, SIGTERM interrupts, and the parent's word to stop is a SIGTERM; outside, SIGTERM ends the process.

        Raises:
            KeyboardInterrupt: the word has come, or nobody is there any more to give it.
        """
        signal.signal(signal.SIGTERM, interrupts)
        try:
            with self._lock:  # `stopped` is asked by the other thread only: whoever is interrupted there keeps its lock
                self._busy, told = True, self._told
            if told or (self._parent is not None and not self._parent.is_alive()):
                raise KeyboardInterrupt
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._busy = False

    def tell(self, key: str) -> Tell:
        """What says of a measurement where it is, a few times a second."""
        told = 0.0

        def tell(step: int, steps: int, note: str) -> None:
            nonlocal told
            if time.monotonic() - told > OFTEN:
                told = time.monotonic()
                self.news.put((key, step, steps, note))

        return tell

    def _watch(self) -> None:
        self.stopped.wait()
        main = threading.main_thread().ident
        assert main is not None, "the main thread has begun"
        with self._lock:
            self._told = True
            if self._busy:
                signal.pthread_kill(main, signal.SIGTERM)


_HAND: list[Hand] = []


def begin_work(news: "multiprocessing.Queue[News]", stopped: Event, threads: int) -> None:
    """What a process knows before it gets work."""
    end_with_parent()
    torch.set_num_threads(threads)
    _HAND[:] = [Hand(news, stopped)]
    news.put(("", 0, 0, "present"))


def measured_there(measure: Measure, key: str, claim: Claim, group: Sequence[Cell], store: Store) -> None:
    """Measure a group of cells in this process."""
    (hand,) = _HAND
    with hand.at_work():
        tell = hand.tell(key)
        tell(0, 0, "")
        measure(claim, group, store, tell)
