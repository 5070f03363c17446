"""SIGTERM and Ctrl-C between two steps, never within one; and what ends with the process that started it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process, resource_tracker
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None
PARENT = "GRADVOTE_PARENT"
"""The variable that names the process with which a worker has to end."""
LOOK, LAST_SECONDS = 0.2, 5.0


def interrupts(number: int, frame: FrameType | None) -> None:
    """A handler: what Ctrl-C does to a program that knows nothing of signals."""
    raise KeyboardInterrupt


_PLAIN: Mapping[signal.Signals, tuple[Handler, ...]] = {
    signal.SIGTERM: (signal.SIG_DFL, interrupts),
    signal.SIGINT: (signal.default_int_handler, interrupts),
}


@contextmanager
def signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """Within, the first SIGTERM or SIGINT calls `stop`; a second one does what it would have done without this.

    Nothing changes outside the main thread, for a signal that the program handles in its own way, or for processes
    that are forked meanwhile: the first signal ends a pool's workers.
    """
    main, process = threading.current_thread() is threading.main_thread(), os.getpid()
    before = {number: signal.getsignal(number) for number in _PLAIN}
    ours = {number: handler for number, handler in before.items() if main and handler in _PLAIN[number]}

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(number, ours[signal.Signals(number)])
        if os.getpid() == process:
            stop()
        else:  # a fork of it, as a pool's worker: nobody looks there whether it was asked to stop
            os.kill(os.getpid(), number)

    with _in_place_of(ours, first):
        yield


@contextmanager
def signals_wait() -> Iterator[None]:
    """Within, the first SIGTERM or SIGINT is heard at the end, and a second one at once.

    Signals that no handler of Python's hears do what they did, and so does everything outside the main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _PLAIN} if main else {}
    theirs = {number: handler for number, handler in handlers.items() if callable(handler)}
    heard: list[int] = []

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(number, theirs[signal.Signals(number)])
        heard.append(number)

    try:
        with _in_place_of(theirs, first):
            yield
    finally:
        for late in heard:
            signal.raise_signal(late)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Within, SIGTERM raises KeyboardInterrupt, as Ctrl-C does; where the program handles it, nothing changes."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupts)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _in_place_of(
    handlers: Mapping[signal.Signals, Handler], other: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Within, `other` hears these signals, unless it gives one back to its handler earlier."""
    for number in handlers:
        signal.signal(number, other)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Within, processes are started that Ctrl-C on the terminal does not reach: only their parent tells them to end.

    They have SIGINT blocked from their first instruction on, and it stays so unless they change it. One that comes
    here meanwhile is heard afterwards.
    """
    resource_tracker.ensure_running()  # started with the first process, it would open the mask again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(patience: float = LAST_SECONDS) -> None:
    """Watch, in a thread, the process that started this one: of `multiprocessing`, or that which GRADVOTE_PARENT names.

    When it is gone, however it ended, this one gets a SIGTERM, and `patience` seconds later it ends for good.
    """
    known = os.environ.get(PARENT)
    if parent_process() is not None or known:
        threading.Thread(target=_watch, args=(int(known or 0), patience), daemon=True).start()


def _watch(known: int, patience: float) -> None:
    parent = parent_process()
    while parent.is_alive() if parent is not None else os.getppid() == known:
        time.sleep(LOOK)
    main = threading.main_thread().ident
    assert main is not None, "the main thread has begun"
    signal.pthread_kill(main, signal.SIGTERM)
    time.sleep(patience)
    os._exit(1)
