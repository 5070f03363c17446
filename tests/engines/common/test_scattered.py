"""Where a layout's rows are: never another layout's, only what the layout needs, and no copies of what is there."""

import gc
from dataclasses import replace

import pytest
import torch

from gradvote.engines.common import flat_buffer
from gradvote.engines.common.flat_buffer import FlatBuffer
from gradvote.engines.common.part import chunks_of
from gradvote.layout import Layout, layout_of
from gradvote.scattered import Scattered, vector_of

SHAPES = ((40, 10), (300,), (7, 3, 3, 3), (5,))


@pytest.fixture(autouse=True)
def as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_buffer, "reads_scattered", lambda *given: True)


def layout() -> Layout:
    return layout_of([torch.Size(shape).numel() for shape in SHAPES], 64)


def read(found: Scattered) -> torch.Tensor:
    """What a kernel reads by the addresses."""
    memory, rows = found.base, found.layout.ragged
    lines = zip(found.where.tolist(), rows.lengths.tolist(), strict=True)
    return torch.cat([memory.as_strided((n,), (1,), memory.storage_offset() + at) for at, n in lines])


def test_layouts_that_come_and_go_are_not_taken_for_each_other() -> None:
    """A number of Python's belongs to another layout once the first is gone."""
    whole = torch.randn(layout().size)  # one memory, so that all can be read from the first
    parts = whole.split([torch.Size(shape).numel() for shape in SHAPES])
    gradients = {i: part.view(shape) for i, (part, shape) in enumerate(zip(parts, SHAPES, strict=True))}
    buffer = FlatBuffer(torch.float32)
    for number in range(60):
        for own in chunks_of(replace(layout()), 1 + number % 7):
            found = buffer.where_they_are(own, gradients)
            expected = buffer.gather(own, gradients).clone()
            assert torch.equal(read(found) if isinstance(found, Scattered) else found, expected)
        del own, found
        gc.collect()
    assert len(buffer.places._known) <= 1


def test_a_layout_is_given_what_it_needs() -> None:
    gradients = {i: torch.randn(shape) for i, shape in enumerate(SHAPES)}
    gradients[2] = gradients[2].to(memory_format=torch.channels_last)
    parts = [layout().subset([0, 1]), layout().subset([2, 3])]
    buffer = FlatBuffer(torch.float32)
    for own in parts:
        found = buffer.where_they_are(own, gradients)
        assert isinstance(found, Scattered) and torch.equal(vector_of(found), buffer.gather(own, gradients))
        assert len(found.tensors) == 2
    missing = {**gradients, 3: None}
    assert isinstance(buffer.where_they_are(parts[0], missing), Scattered)
    assert isinstance(buffer.where_they_are(parts[1], missing), torch.Tensor)


def test_what_is_given_is_put_where_it_belongs() -> None:
    targets = {i: torch.zeros(shape) for i, shape in enumerate(SHAPES)}
    own, buffer = layout(), FlatBuffer(torch.float32)
    found = buffer.where_they_are(own, targets)
    assert isinstance(found, Scattered)
    vector = torch.randn(own.size)
    found.put(vector)
    assert torch.equal(buffer.gather(own, targets), vector)
