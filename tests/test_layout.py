"""Every coordinate stands in exactly one place; flatten and unflatten are inverse."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote.layout import Layout, layout_of, unit_of

NUMELS = st.lists(st.sampled_from([0, 1, 2, 7, 63, 64, 65, 130]) | st.integers(0, 200), max_size=8)
BLOCK_SIZES = st.none() | st.sampled_from([1, 2, 63, 64, 65, 16384])


def owners(layout: Layout) -> list[tuple[int, int]]:
    """For each place of the flat vector: the parameter and its coordinate."""
    places: list[tuple[int, int] | None] = [None] * layout.size
    for p in layout.pieces:
        for k in range(p.length):
            assert places[p.offset + k] is None, "two coordinates in one place"
            places[p.offset + k] = (p.param, p.start + k)
    assert None not in places
    return places  # type: ignore[return-value]


@given(numels=NUMELS, block_size=BLOCK_SIZES)
def test_every_coordinate_exactly_once(numels: list[int], block_size: int | None) -> None:
    layout = layout_of(numels, block_size)
    assert layout.size == sum(numels)
    assert sorted(owners(layout)) == [(p, k) for p, numel in enumerate(numels) for k in range(numel)]


@given(numels=NUMELS, block_size=BLOCK_SIZES)
def test_blocks(numels: list[int], block_size: int | None) -> None:
    """A block is at most `block_size` consecutive coordinates of one tensor, numbered in the order of the tensors."""
    layout = layout_of(numels, block_size)
    places, found = owners(layout), {}
    for group in layout.groups:
        assert group.n > 0
        assert len(group.blocks) == len(group.owners)
        assert group.block.tolist() == list(group.blocks)
        for i, (block, owner) in enumerate(zip(group.blocks, group.owners, strict=True)):
            row = places[group.offset + i * group.n : group.offset + (i + 1) * group.n]
            assert {param for param, _ in row} == {owner}
            assert [k for _, k in row] == list(range(row[0][1], row[0][1] + group.n))
            found[block] = row[0]
            tail = row[-1][1] == numels[owner] - 1
            assert group.n == (block_size or numels[owner]) or tail
    assert sorted(found) == list(range(len(found)))
    assert [found[b] for b in sorted(found)] == sorted(found.values())
    assert len({g.n for g in layout.groups}) == len(layout.groups)


@pytest.mark.parametrize(
    ("shape", "unit"),
    [((), 64), ((1000,), 64), ((1000, 64), 64), ((7, 640), 64), ((64, 64, 3, 3), 64), ((1000, 16), 16), ((9, 1), 1),
     ((1000, 100), 100), ((16, 3, 3, 3), 27), ((5, 0), 64), ((0, 3), 3)],
)  # fmt: skip
def test_the_units_of_a_tensor_are_64_coordinates_or_a_row(shape: tuple[int, ...], unit: int) -> None:
    assert unit_of(shape) == unit


@given(numels=NUMELS, block_size=BLOCK_SIZES, data=st.data())
def test_blocks_begin_in_the_units_of_their_tensor(
    numels: list[int], block_size: int | None, data: st.DataObject
) -> None:
    units = data.draw(st.lists(st.sampled_from([1, 5, 64, 100]), min_size=len(numels), max_size=len(numels)))
    layout = layout_of(numels, block_size, units)
    places = owners(layout)
    for group in layout.groups:
        assert (group.phases is None) == (block_size is None or block_size % group.unit == 0)
        for i, owner in enumerate(group.owners):
            start = places[group.offset + i * group.n][1]
            assert group.unit == units[owner]
            assert start % group.unit == (group.phases[i] if group.phases else 0)
            touched = (start + group.n - 1) // group.unit - start // group.unit + 1
            assert touched <= group.units.count(group.n) <= touched + 1


@given(numels=NUMELS, block_size=BLOCK_SIZES)
def test_flatten_and_unflatten_are_inverse(numels: list[int], block_size: int | None) -> None:
    layout = layout_of(numels, block_size)
    tensors = [torch.arange(n, dtype=torch.float32) + 1000 * k for k, n in enumerate(numels)]
    flat = layout.flatten(tensors, out=torch.full((layout.size,), torch.nan))
    assert not bool(flat.isnan().any())
    back = [torch.full((n,), torch.nan) for n in numels]
    layout.unflatten(flat, back)
    assert all(torch.equal(a, b) for a, b in zip(tensors, back, strict=True))


@given(numels=NUMELS, block_size=BLOCK_SIZES, data=st.data())
def test_a_subset_keeps_numbers_and_rows(numels: list[int], block_size: int | None, data: st.DataObject) -> None:
    layout = layout_of(numels, block_size)
    chosen = data.draw(st.permutations(range(len(numels)))) if numels else []
    chosen = chosen[: data.draw(st.integers(0, len(numels)))]
    subset = layout.subset(chosen)
    assert subset.size == sum(numels[p] for p in chosen)

    def rows(layout: Layout) -> dict[int, list[tuple[int, int]]]:
        places = owners(layout)
        return {
            b: places[g.offset + i * g.n : g.offset + (i + 1) * g.n]
            for g in layout.groups
            for i, b in enumerate(g.blocks)
        }

    whole = rows(layout)
    assert rows(subset) == {b: row for b, row in whole.items() if row[0][0] in chosen}
    tensors = [torch.full((numels[p],), float(p)) for p in chosen]
    flat = subset.flatten(tensors, out=torch.empty(subset.size))
    assert [float(p) for p, _ in owners(subset)] == flat.tolist()


def test_views_are_views() -> None:
    layout = layout_of([130, 7, 64], 64)
    flat = torch.zeros(3, layout.size)
    for view, group in zip(layout.views(flat), layout.groups, strict=True):
        assert view.shape == (3, len(group.blocks), group.n)
        view.fill_(1)
    assert bool((flat == 1).all())
    assert [(g.n, g.blocks) for g in layout.groups] == [(64, (0, 1, 4)), (7, (3,)), (2, (2,))]


def test_parameters_of_any_shape_and_dtype() -> None:
    layout = layout_of([6, 4], None)
    tensors = [torch.arange(6.0).view(2, 3).t(), torch.arange(4, dtype=torch.bfloat16).view(2, 2)]
    flat = layout.flatten(tensors, out=torch.empty(10))
    assert flat.tolist() == [0, 3, 1, 4, 2, 5, 0, 1, 2, 3]


def test_gradients_that_require_grad_are_read() -> None:
    layout = layout_of([2], None)
    assert layout.flatten([torch.ones(2, requires_grad=True)], out=torch.empty(2)).tolist() == [1, 1]


def test_layouts_are_values() -> None:
    layout = layout_of([130, 7], 64)
    _ = layout.groups[0].block
    assert pickle.loads(pickle.dumps(layout)) == layout == layout_of((130, 7), 64)
    assert hash(layout) == hash(layout_of((130, 7), 64))
    assert layout != layout_of((130, 7), 65)


@pytest.mark.parametrize("block_size", [0, -1])
def test_bad_block_sizes(block_size: int) -> None:
    with pytest.raises(ValueError, match="block_size must be at least 1"):
        layout_of([3], block_size)


def test_tensors_of_any_memory_format_are_filled() -> None:
    """A gradient in channels_last has its numbers in another order in memory, and no flat view."""
    layout = layout_of([24, 5], 16)
    tensors = [torch.arange(24.0).view(2, 3, 2, 2), torch.arange(5.0)]
    flat = layout.flatten(tensors, torch.empty(layout.size))
    out = [torch.zeros(2, 3, 2, 2).to(memory_format=torch.channels_last), torch.zeros(5)]
    layout.unflatten(flat, out)
    assert all(torch.equal(a, b) for a, b in zip(out, tensors, strict=True))
