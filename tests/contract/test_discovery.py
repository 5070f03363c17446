"""The laws reach everything: a part without samples, or an algorithm that is not found, fails here."""

from types import ModuleType

import pytest
import torch

from gradvote import algorithms
from tests.contract.parts import ALGORITHMS, BASES, classes, modules, samples


@pytest.mark.parametrize("package", BASES, ids=lambda p: p.__name__)
def test_every_part_has_samples(package: ModuleType) -> None:
    known, found = samples(package), classes(package)
    for kind, module in found.items():
        assert kind in known, f"{module} has no samples of {kind.__name__}: end it with SAMPLES = ({kind.__name__}(),)."
    assert found.keys() == known.keys(), "SAMPLES hold parts of their own package"


def test_every_file_is_an_algorithm() -> None:
    files = {m.__name__.rsplit(".", 1)[1] for m in modules(algorithms)[1:]}
    found = {f.replace("-", "_") for f in algorithms.names()}
    assert {f for f in files if not f.startswith("_")} == found | {"noisy"}
    assert len(found) >= 9
    assert all(f"noisy-{name}" in ALGORITHMS for name in algorithms.names())


def test_uninitialised_memory_is_poisoned() -> None:
    assert bool(torch.empty(1000).isnan().all())
