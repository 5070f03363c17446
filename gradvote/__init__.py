"""gradvote: one-bit, fault-tolerant, non-iid-safe distributed training for PyTorch.

`gradvote.algorithms` is the catalogue; `gradvote.distributed` and `gradvote.ddp` run it on real workers;
`gradvote.train` and the command `gradvote` train over simulated ones; `gradvote.suggest_lr` says with which learning
rate to begin. Submodules are loaded when first used.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradvote.theory import suggest_lr as suggest_lr

__version__ = "0.1.0"

_HOMES = {"suggest_lr": "gradvote.theory"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name.startswith("_") or name not in _submodules():
        raise AttributeError(f"gradvote has no '{name}'. It has: {', '.join(sorted([*_HOMES, *_submodules()]))}.")
    return importlib.import_module(f"gradvote.{name}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES, *_submodules()]


def _submodules() -> set[str]:
    return {info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")}
