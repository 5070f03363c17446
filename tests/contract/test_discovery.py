"""The laws reach everything: a part without an example, or an algorithm that is not found, fails here."""

from types import ModuleType

import pytest
import torch

from gradvote import algorithms
from tests.contract.parts import ALGORITHMS, PACKAGES, classes, modules


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.__name__)
def test_every_part_has_examples(package: ModuleType) -> None:
    base, examples = PACKAGES[package]
    missing = {c.__name__ for c in classes(package, base)} - {c.__name__ for c in examples}
    assert not missing, f"Give {missing} an example in tests/contract/parts.py."
    assert all(group and all(type(e) is kind for e in group) for kind, group in examples.items())


def test_every_file_is_an_algorithm() -> None:
    files = {m.__name__.rsplit(".", 1)[1] for m in modules(algorithms)} - {"algorithms"}
    found = {f.replace("-", "_") for f in algorithms.names()}
    assert {f for f in files if not f.startswith("_")} == found | {"noisy"}
    assert len(found) >= 9
    assert all(f"noisy-{name}" in ALGORITHMS for name in algorithms.names())


def test_uninitialised_memory_is_poisoned() -> None:
    assert bool(torch.empty(1000).isnan().all())
