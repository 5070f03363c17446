"""gradvote: one-bit, fault-tolerant, non-iid-safe distributed training for PyTorch.

`gradvote.algorithms` is the catalogue; `gradvote.distributed` and `gradvote.ddp` run it on real workers;
`gradvote.train` and the command `gradvote` train over simulated ones. Submodules are loaded when first used.
"""

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    if name.startswith("_") or name not in _submodules():
        raise AttributeError(f"gradvote has no '{name}'. It has: {', '.join(sorted(_submodules()))}.")
    return importlib.import_module(f"gradvote.{name}")


def __dir__() -> list[str]:
    return [*globals(), *_submodules()]


def _submodules() -> set[str]:
    return {info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_")}
