"""Handles of a vote: they have threads, sockets and memories of one process, and no copy of them would vote."""

from collections.abc import Callable
from typing import Any, NoReturn


class NotCopied:
    """Refuses `copy.deepcopy`, `pickle` and `torch.save`, and says what to save instead."""

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(
            f"{kind} cannot be copied or pickled: it belongs to this process and its connections. Save its "
            "state_dict(), and call load_state_dict() of the one that is built anew."
        )


class Behind:
    """What a wrapped model keeps of a vote: a copy (`copy.deepcopy`, `torch.save`, averaged weights) votes no more."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()
