"""Votes in the training loops of others, each in a file of its own: `transformers`, `lightning`, `accelerate`.

Each needs its extra, and is loaded when it is first used.
"""

from typing import TYPE_CHECKING

from gradvote.discovery import on_first_use

if TYPE_CHECKING:
    from gradvote.integrations import accelerate as accelerate
    from gradvote.integrations import lightning as lightning
    from gradvote.integrations import transformers as transformers

if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(globals(), {})
