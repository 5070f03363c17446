"""Standard output and standard error that nobody reads any more: what is written there is dropped, the work goes on.

A run has hours behind it and writes its records; who reads its lines, `| head -1` or a terminal that was closed, does
not decide on it. Full disks are no such case: they stay errors.
"""

import errno
import io
import os
import sys
from typing import Any

_GONE = (errno.EPIPE, errno.EIO)


class _Outlet(io.FileIO):
    def write(self, data: Any, /) -> int:
        """Write, or drop what is written from the moment on when nobody reads."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            _to_nowhere(self.fileno())
            return len(memoryview(data).cast("B"))


def steady_streams() -> None:
    """From now on a broken pipe, or a closed terminal, at standard output or standard error is no error.

    Where they were closed from the start, the next files opened do not take their numbers, which other libraries
    write to.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None and _is_closed(number):
            _to_nowhere(number)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115  # stays open
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper and type(_raw(stream)) is io.FileIO:
            setattr(sys, name, _steady(stream))


def _steady(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    try:
        stream.flush()
    except OSError as error:
        if error.errno not in _GONE:
            raise
        _to_nowhere(stream.fileno())
    outlet = _Outlet(stream.fileno(), "w", closefd=False)
    buffer: Any = outlet if isinstance(stream.buffer, io.FileIO) else io.BufferedWriter(outlet)
    return io.TextIOWrapper(
        buffer,
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: io.TextIOWrapper) -> object:
    return getattr(stream.buffer, "raw", stream.buffer)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _to_nowhere(number: int) -> None:
    """Have this number, and those who inherit it, write to nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(nowhere, number)
        os.close(nowhere)
