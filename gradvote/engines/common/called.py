"""A number that a script calls out of habit: `vote.step()` is right in other engines."""

import sys
from opcode import opmap

import torch

OWN_BIT = sys.version_info >= (3, 12)
"""Whether reading an attribute that is called next is a bit of an instruction; before, it was one of its own."""
READS = opmap["LOAD_ATTR" if OWN_BIT else "LOAD_METHOD"]
VOTES_BY_ITSELF = (
    "vote.step is the number of the next vote, and no function: in this engine loss.backward() votes by itself. Leave "
    "vote.step() out, and call optimizer.step() after the backward pass."
)


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
