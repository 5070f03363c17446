"""gradvote: one-bit, fault-tolerant, non-iid-safe distributed training for PyTorch.

`gradvote.algorithms` is the catalogue; `gradvote.ddp`, `gradvote.fsdp`, `gradvote.distributed`, `gradvote.elastic`,
`gradvote.torchft` and `gradvote.flower` run it on real workers, `gradvote.local_steps` after several steps of their
own, `gradvote.integrations` in trainers; `gradvote.suggest_lr` says with which learning rate to begin. Parts for
algorithms of one's own are in `gradvote.transforms`, `codecs` and `aggregators`; `gradvote.faults` has lies to try them
with, `gradvote.partitions` ways to split data over workers, `gradvote.theory` what is known about them,
`gradvote.privacy` noise with an account. `gradvote.lab` and the command `gradvote` train over simulated workers,
measure and show. What `__all__` does not name is private. Submodules are loaded when first used.

A map of the files beside the folders. `core` has the parts that all share, and `nouns` what passes between them.
`layout` cuts parameters into blocks, which `ragged` has as rows of unequal length, and `scattered` where they stand in
several tensors; `rng` draws bits, `wire` makes bytes, `staging` moves tensors between host and card, `schedules` are
values that change with the step, `shuffle` orders samples. `discovery` finds parts, reading their `sources`;
`arguments` checks what they are given by name, `fitting` what they are made of, `recipes` reads them back from
checkpoints, `rounding` keeps their states in half the memory. `errors` are those that a user can mend. `ddp`,
`fsdp`, `distributed`, `elastic`, `torchft` and `flower` are the doors of `engines/`; `metrics` and `optim` stand behind
them. `moved` knows old names.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from gradvote.moved import LAB, redirect

if TYPE_CHECKING:  # for type checkers the same names, imported outright; nothing else passes for right
    from gradvote import aggregators as aggregators
    from gradvote import algorithms as algorithms
    from gradvote import codecs as codecs
    from gradvote import core as core
    from gradvote import ddp as ddp
    from gradvote import distributed as distributed
    from gradvote import elastic as elastic
    from gradvote import errors as errors
    from gradvote import faults as faults
    from gradvote import flower as flower
    from gradvote import fsdp as fsdp
    from gradvote import integrations as integrations
    from gradvote import lab as lab
    from gradvote import local_steps as local_steps
    from gradvote import metrics as metrics
    from gradvote import optim as optim
    from gradvote import partitions as partitions
    from gradvote import privacy as privacy
    from gradvote import rng as rng
    from gradvote import rounding as rounding
    from gradvote import schedules as schedules
    from gradvote import theory as theory
    from gradvote import torchft as torchft
    from gradvote import transforms as transforms
    from gradvote.theory import suggest_lr as suggest_lr

__version__ = "0.2.0"

__all__ = [
    "aggregators",
    "algorithms",
    "codecs",
    "core",
    "ddp",
    "distributed",
    "elastic",
    "errors",
    "faults",
    "flower",
    "fsdp",
    "integrations",
    "lab",
    "local_steps",
    "metrics",
    "optim",
    "partitions",
    "privacy",
    "rng",
    "rounding",
    "schedules",
    "suggest_lr",
    "theory",
    "torchft",
    "transforms",
]

_HOMES = {"suggest_lr": "gradvote.theory"}
redirect()

if not TYPE_CHECKING:  # a type checker would take any name for right

    def __getattr__(name: str) -> object:
        """What is listed; and, for callers that reach further in, any other file of the package by its name."""
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        if name.startswith("_") or name not in {*_submodules(), *LAB}:
            raise AttributeError(f"gradvote has no '{name}'. It has: {', '.join(__all__)}.")
        return importlib.import_module(f"gradvote.{name}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _submodules() -> set[str]:
    return {info.name for info in pkgutil.iter_modules(__path__)}
