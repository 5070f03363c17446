"""SIGTERM and Ctrl-C between two steps, never within one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None


@contextmanager
def signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """Within, the first SIGTERM or SIGINT calls `stop`; a second one does what it would have done without this.

    Nothing changes outside the main thread, or for a signal that the program handles in its own way.
    """
    plain: dict[signal.Signals, Handler] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    main = threading.current_thread() is threading.main_thread()
    ours = [number for number, handler in plain.items() if main and signal.getsignal(number) == handler]

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(number, plain[signal.Signals(number)])
        stop()

    for number in ours:
        signal.signal(number, first)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, plain[number])
