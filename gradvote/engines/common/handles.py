"""What all handles of votes have in common: one line that says what they are, and sentences for what they refuse.

They refuse copies, as they have threads, sockets and memories of one process; and to be called what is a number:
`vote.step()` is right in some engines, so that scripts call it out of habit in others, where `vote.step` is a number.
"""

import sys
from collections.abc import Callable
from opcode import opmap
from typing import Any, NoReturn

import torch

OWN_BIT = sys.version_info >= (3, 12)
"""Whether reading an attribute that is called next is a bit of an instruction; before, it was one of its own."""
READS = opmap["LOAD_ATTR" if OWN_BIT else "LOAD_METHOD"]
VOTES_BY_ITSELF = (
    "vote.step is the number of the next vote, and no function: in this engine loss.backward() votes by itself. Leave "
    "vote.step() out, and call optimizer.step() after the backward pass."
)


class Handle:
    """What `attach` returns: it prints in one line; `copy.deepcopy`, `pickle` and `torch.save` hear what to save."""

    def __repr__(self) -> str:
        return in_one_line(type(self).__name__, self._told)

    def _told(self) -> tuple[str, object]:
        """Where it stands, in words, and what it runs: of what is here, without asking a card or the others."""
        raise NotImplementedError

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


def in_one_line(kind: str, told: Callable[[], tuple[str, object]]) -> str:
    """A handle in one line; its kind alone where the rest cannot be told, as of one that was never built."""
    try:
        where, what = told()
        return " ".join(f"<{kind}: {where}; {what!r}>".split())
    except Exception:  # a log or a debugger prints what it finds, in whatever state
        return f"<{kind}>"


def refuse_call(text: str) -> None:
    """For a property: raise TypeError with `text` where what it gives is about to be called.

    A number that could be called would be no int any more: torch.load and YAML refuse subclasses of it.
    """
    if torch.compiler.is_compiling():  # which traces no frames
        return
    caller = sys._getframe(2)
    code, at = caller.f_code.co_code, caller.f_lasti
    while code[at] == opmap["CACHE"]:  # where Python 3.12 is, once it has made an instruction faster
        at -= 2
    if code[at] == READS and (code[at + 1] & 1 or not OWN_BIT):
        raise TypeError(text)
