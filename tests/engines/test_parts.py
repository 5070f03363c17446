import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradvote import algorithms
from gradvote.distributed import PLACEMENTS
from gradvote.engines.common.flat_buffer import Decode, FlatBuffer, Outbox
from gradvote.engines.common.part import chunks_of, part_of
from gradvote.engines.common.placement import block_sizes, served
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.distributed.part_round import _stacked
from gradvote.engines.distributed.states import flat_rows, rows_from
from gradvote.layout import Layout, layout_of

NUMELS = st.lists(st.integers(0, 200), min_size=1, max_size=6).filter(any)
BLOCK = st.one_of(st.none(), st.integers(1, 70))


@settings(max_examples=60, deadline=None)
@given(NUMELS, BLOCK, st.integers(1, 9), st.integers(1, 5))
def test_chunks_and_shards_hold_every_block_once(
    numels: list[int], block: int | None, num_chunks: int, ranks: int
) -> None:
    layout = layout_of(numels, block)
    chunks = chunks_of(layout, num_chunks)
    blocks = [b for c in chunks for g in c.groups for b in g.blocks]
    assert sorted(blocks) == list(range(len(block_sizes(layout))))
    assert len(chunks) <= num_chunks and sum(c.size for c in chunks) == layout.size
    protocol = Protocol(algorithms.signsgd(), layout, 0)
    for chunk in chunks:
        part = part_of(protocol, chunk, served(layout, "sharded", ranks))
        shared = [b for s in part.shards for g in s.protocol.layout.groups for b in g.blocks]
        assert sorted(shared) == sorted(b for g in chunk.groups for b in g.blocks)


@settings(max_examples=60, deadline=None)
@given(NUMELS, BLOCK, st.integers(1, 9))
def test_what_chunks_flatten_they_write_back(numels: list[int], block: int | None, num_chunks: int) -> None:
    layout = layout_of(numels, block)
    gradients = {i: torch.randn(n) for i, n in enumerate(numels)}
    whole = layout.flatten(list(gradients.values()), out=torch.empty(layout.size))
    chunks = chunks_of(layout, num_chunks)
    buffer = FlatBuffer(torch.float32)
    flats = [buffer.gather(chunk, gradients).clone() for chunk in chunks]
    assert torch.equal(torch.cat(flats), whole)
    targets = {i: torch.full_like(g, torch.nan) for i, g in gradients.items()}
    outbox = Outbox(buffer, targets, scale=2)
    for chunk, flat in zip(chunks, flats, strict=True):
        outbox.write(chunk, _decoder(flat))
    outbox.finish()
    assert all(torch.equal(targets[i], 2 * g) for i, g in gradients.items())


def _decoder(flat: torch.Tensor) -> Decode:
    return lambda out: flat.clone() if out is None else out.copy_(flat)


@pytest.mark.parametrize("num_chunks", [1, 3])
def test_one_large_gradient_is_neither_copied_in_nor_out(num_chunks: int) -> None:
    layout, gradient = layout_of([0, 1000], 64), torch.randn(1000)
    start, buffer = 0, FlatBuffer(torch.float32)
    written: list[int] = []

    def decode(out: torch.Tensor | None) -> torch.Tensor:
        assert out is not None
        written.append(out.data_ptr())
        return out

    for k, chunk in enumerate(chunks_of(layout, num_chunks)):
        flat = buffer.gather(chunk, {0: None, 1: gradient})
        Outbox(buffer, {1: gradient}).write(chunk, decode)
        assert written[k] == flat.data_ptr() == gradient.data_ptr() + 4 * start
        start += chunk.size


@settings(max_examples=60, deadline=None)
@given(NUMELS, BLOCK, st.integers(1, 9), st.integers(1, 5), st.lists(st.integers(1, 70), min_size=6, max_size=6))
def test_chunks_and_shards_keep_each_blocks_units(
    numels: list[int], block: int | None, num_chunks: int, ranks: int, lengths: list[int]
) -> None:
    layout = layout_of(numels, block, lengths[: len(numels)])
    whole = _units(layout)
    protocol = Protocol(algorithms.signsgd(), layout, 0)
    for chunk in chunks_of(layout, num_chunks):
        part = part_of(protocol, chunk, served(layout, "sharded", ranks))
        for own in (chunk, *(shard.protocol.layout for shard in part.shards)):
            assert _units(own).items() <= whole.items()


def _units(layout: Layout) -> dict[int, tuple[int, int, int]]:
    """How long the units of each block are, how far into one it begins, and how many it may have."""
    found = {}
    for group in layout.groups:
        for block, phase in zip(group.blocks, group.phases or (0,) * len(group.blocks), strict=True):
            found[block] = group.unit, phase, group.units.count(group.n)
    return found


def test_shards_are_balanced_and_independent_of_chunks() -> None:
    layout = layout_of([1_000_000, 64, 10], 16384)
    sizes = torch.tensor(block_sizes(layout))
    loads = [int(sizes[mine].sum()) for mine in served(layout, "sharded", 4)]
    assert max(loads) - min(loads) <= 16384
    assert bool(served(layout, "replicated", 4).all())
    assert served(layout, "central", 4).sum(1).tolist() == [len(sizes), 0, 0, 0]


def test_missing_gradients_abstain() -> None:
    flat = FlatBuffer(torch.float32).gather(layout_of([3, 2], None), {0: None, 1: torch.ones(2)})
    assert flat.isnan().tolist() == [True, True, True, False, False]


def test_saved_rows_come_back_and_wrong_sizes_are_refused() -> None:
    rows = {"memory": {0: torch.randn(4), 2: torch.randn(3)}, "lr": {0: torch.tensor(0.5), 2: torch.tensor(0.1)}}
    saved = {"weight": flat_rows(rows)}
    back = rows_from(saved, [4, 9, 3])
    assert torch.equal(back["memory"][2], rows["memory"][2]) and float(back["lr"][0]) == 0.5
    with pytest.raises(ValueError, match="weight: memory of the checkpoint has 7 numbers for 2 blocks"):
        rows_from(saved, [4, 9, 5])


def test_ballots_are_read_where_they_arrived() -> None:
    arrived = torch.arange(96, dtype=torch.uint8)
    messages = [part[:30] for part in arrived.split(32)]
    seen = _stacked(messages)
    assert torch.equal(seen, torch.stack(messages)) and seen.data_ptr() == arrived.data_ptr()
    for apart in ([m.clone() for m in messages], [messages[0], messages[2], messages[1]], messages[::-1], messages[:1]):
        assert torch.equal(_stacked(apart), torch.stack(apart))


def test_placements_have_names() -> None:
    assert PLACEMENTS == ("central", "sharded", "replicated")
    with pytest.raises(ValueError, match="Did you mean 'central'"):
        served(layout_of([3], None), "centrl", 2)  # type: ignore[arg-type]
