"""What the library has to say while it works, on the terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class _Shown(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(f"[dim]{escape(record.getMessage())}[/]", soft_wrap=True)


@contextmanager
def shown_on(console: Console) -> Iterator[None]:
    """Within, what `gradvote` logs, compiling for instance, is printed as a line each."""
    log, shown = logging.getLogger("gradvote"), _Shown(console)
    before = log.level
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(shown)
        log.setLevel(before)
