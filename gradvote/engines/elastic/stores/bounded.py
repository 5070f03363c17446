"""Calls that are not waited for longer than asked, although what they call knows no end."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Answer = queue.SimpleQueue[tuple[Any, BaseException | None]]


class Bounded:
    """One thread makes all calls, in order: while one hangs, none is begun, and who waits is told so."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], float, Answer]] = queue.SimpleQueue()
        self._lock, self._started = threading.Lock(), False

    def __call__(self, work: Callable[[], T], seconds: float) -> T:
        """What `work` gives.

        Raises:
            TimeoutError: it is not done yet; it may be done later, if it had begun.
        """
        with self._lock:
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="gradvote store", daemon=True).start()
        answer: Answer = queue.SimpleQueue()
        self._jobs.put((work, time.monotonic() + seconds, answer))
        try:
            value, error = answer.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            raise TimeoutError(f"no answer within {seconds:g} s") from None
        if error is not None:
            raise error
        result: T = value
        return result

    def _run(self) -> None:
        while True:
            work, until, answer = self._jobs.get()
            if time.monotonic() < until:  # nobody waits for what is late
                try:
                    answer.put((work(), None))
                except BaseException as error:
                    answer.put((None, error))
