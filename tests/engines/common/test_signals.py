"""Ctrl-C between steps."""

import os
import signal
import threading
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Event

import pytest

from gradvote.engines.common.signals import signals_call, signals_wait


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_noted_the_second_raises():
    noted = []
    with pytest.raises(KeyboardInterrupt), signals_call(lambda: noted.append(1)):
        ctrl_c()
        assert noted == [1]
        ctrl_c()
    assert noted == [1] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_afterwards_all_is_as_before():
    with signals_call(list):
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_programs_own_handler_is_kept():
    noted = []
    old = signal.signal(signal.SIGINT, lambda *_: noted.append("own"))
    try:
        with signals_call(lambda: noted.append("ours")):
            ctrl_c()
    finally:
        signal.signal(signal.SIGINT, old)
    assert noted == ["own"]


def test_in_another_thread_nothing_happens():
    failures = []

    def work():
        try:
            with signals_call(list):
                pass
        except ValueError as error:  # what signal.signal raises there
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


def _waits(begun: Event) -> None:
    begun.set()
    time.sleep(60)


def test_a_process_that_was_forked_meanwhile_ends_at_the_first() -> None:
    """A pool's workers would stay for ever, and whoever ends the pool with them."""
    noted, fork = [], get_context("fork")
    with signals_call(lambda: noted.append(1)):
        begun = fork.Event()
        child = fork.Process(target=_waits, args=(begun,))
        child.start()
        assert begun.wait(20), "a signal that comes while Python prepares the fork is lost, to every program"
        child.terminate()
        child.join(20)
        ended = child.exitcode
        child.kill()
    assert ended == -signal.SIGTERM and noted == []


def test_a_signal_waits_and_a_second_one_does_not() -> None:
    noted = []
    with pytest.raises(KeyboardInterrupt), signals_wait():
        ctrl_c()
        noted.append("to the end")
    with pytest.raises(KeyboardInterrupt), signals_wait():
        ctrl_c()
        ctrl_c()
        noted.append("not here")
    assert noted == ["to the end"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_programs_own_handler_is_called_at_the_end() -> None:
    noted = []
    old = signal.signal(signal.SIGTERM, lambda *_: noted.append("own"))
    try:
        with signals_wait():
            os.kill(os.getpid(), signal.SIGTERM)
            noted.append("first")
    finally:
        signal.signal(signal.SIGTERM, old)
    assert noted == ["first", "own"]
