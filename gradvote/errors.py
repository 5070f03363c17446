"""Errors a user can mend: what was wrong, what was expected, how to mend it."""

import difflib
from collections.abc import Iterable


class WorkerFailed(RuntimeError):
    """A rank failed; the text holds its own traceback."""


class MissingExtra(ImportError):
    """An optional dependency is absent; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"This needs {package}, which is not installed. Install it with: pip install 'gradvote[{extra}]'"
        )


def unknown(kind: str, name: object, valid: Iterable[str]) -> ValueError:
    """The error for a name that does not exist, or is no text: names the valid ones and the nearest match."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    which = f"The valid ones are: {', '.join(names)}." if names else "There are none."
    return ValueError(f"There is no {kind} named '{name}'.{hint} {which}")
