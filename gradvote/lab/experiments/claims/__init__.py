"""The claims: one per file. A file's name, with dashes, is its name for `gradvote reproduce`."""

import importlib
import pkgutil

from gradvote.errors import unknown
from gradvote.lab.experiments.claim import Claim

_NAMES = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))


def names() -> list[str]:
    """The claims by their CLI names."""
    return [name.replace("_", "-") for name in _NAMES]


def claim_named(name: str) -> Claim:
    """The claim of a name.

    Raises:
        ValueError: there is no such claim; the sentence lists the valid ones and the nearest.
    """
    if name not in names():
        raise unknown("claim", name, names())
    claim = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").CLAIM
    assert isinstance(claim, Claim)
    return claim
