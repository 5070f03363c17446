"""A kernel is chosen by the device of all its tensors, from a table; where it has no fast form, the definition runs."""

import importlib.util
import inspect

import pytest
import torch

from gradvote import kernels
from gradvote.kernels import (
    Inertia,
    feedback_reference,
    ragged_reference,
    reference,
    rounding_reference,
    units_reference,
)
from gradvote.rng import Draw

DEFINITIONS = {
    name: getattr(module, name)
    for module in (reference, feedback_reference, units_reference, ragged_reference, rounding_reference)
    for name in kernels.CPU_ROOMS | kernels.RAGGED_ROOMS
    if hasattr(module, name)
}


def elsewhere(*shape: int) -> torch.Tensor:
    """A tensor on a device that has no fast forms, and needs no hardware."""
    return torch.empty(*shape, device="meta")


def test_the_device_is_that_of_any_tensor_that_is_not_on_the_processor() -> None:
    here, there = torch.zeros(3), elsewhere(3)
    assert kernels.device_of(here, 2.0, None) == "cpu"
    assert kernels.device_of(here, there) == kernels.device_of(0.5, (here, there)) == "meta"
    assert kernels.device_of(here, Draw(1, there, here)) == "meta"
    assert kernels.device_of(here, Inertia(there, 0.9, False)) == "meta"


def test_without_a_fast_form_the_definition_runs_on_the_device() -> None:
    words, valid = kernels.checked_pack_signs(elsewhere(2, 65), True)
    assert words.device.type == valid.device.type == "meta"
    assert words.shape == (2, 2)


def test_a_card_without_triton_takes_the_definitions_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    kernels._can_compile.cache_clear()
    with pytest.warns(RuntimeWarning, match="Triton is not installed.*pip install triton"):
        assert not kernels._can_compile("cuda")
    kernels._can_compile.cache_clear()


@pytest.mark.parametrize("device", sorted(kernels.ROOMS))
def test_every_fast_form_has_the_signature_of_its_definition(device: str) -> None:
    if device == "cuda":
        pytest.importorskip("triton")
    for name in kernels.ROOMS[device]:
        fast = kernels._fast(device, name)
        assert fast is not None, name
        wanted = inspect.signature(DEFINITIONS[name]).parameters
        found = inspect.signature(inspect.unwrap(fast)).parameters
        assert [(p.name, p.default) for p in found.values()] == [(p.name, p.default) for p in wanted.values()], name


def test_every_kernel_has_a_fast_form_on_every_device() -> None:
    """But those for rows of unequal length, which no engine asks a card for, and the rounding of states there."""
    assert kernels.CUDA_ROOMS.keys() | {"narrow", "widen"} == kernels.CPU_ROOMS.keys()
    assert kernels.ROOMS["cpu"].keys() == DEFINITIONS.keys()
