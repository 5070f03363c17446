"""Messages arrive as they were sent, or raise WireError; never anything else."""

import struct
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gradvote.core import SERVER, Payload, Plane
from gradvote.wire import (
    HEADER_BYTES,
    Header,
    Kind,
    WireError,
    body_bytes,
    frame,
    joined,
    pack,
    pieces,
    unframe,
    unpack,
)

HEADER = Header(Kind.BALLOT, 3, 10**12, 2, 0xDEADBEEFCAFEF00D)
DTYPES = (torch.int64, torch.float32, torch.float64, torch.bfloat16, torch.float16)


def message(body: bytes = b"some body") -> bytes:
    return frame(torch.frombuffer(bytearray(body), dtype=torch.uint8), HEADER)


def random_plane(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.int64:
        return torch.randint(-(2**62), 2**62, shape, generator=generator)
    return torch.randn(shape, generator=generator).to(dtype)


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[Payload], list[tuple[Plane, ...]], list[int]]:
    """Payloads with fixed and with ragged rows."""
    payloads, planes, num_blocks = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        blocks, arrays, own = draw(st.integers(1, 18)), {}, []
        for k in range(draw(st.integers(0, 3))):
            dtype, seed = draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99))
            if draw(st.booleans()):
                width = draw(st.integers(0, 5))
                own.append(Plane(f"p{k}", dtype, width))
                arrays[f"p{k}"] = random_plane(dtype, (blocks, width), seed)
            else:
                rows = torch.tensor(draw(st.lists(st.integers(0, 5), min_size=blocks, max_size=blocks)))
                own.append(Plane(f"p{k}", dtype, rows))
                array = random_plane(dtype, (blocks, int(rows.max())), seed)
                arrays[f"p{k}"] = array * (torch.arange(int(rows.max())) < rows[:, None])
        valid = torch.tensor(draw(st.lists(st.booleans(), min_size=blocks, max_size=blocks)))
        payloads.append(Payload(valid, arrays))
        planes.append(tuple(own))
        num_blocks.append(blocks)
    return payloads, planes, num_blocks


@given(groups())
def test_pack_and_unpack_are_inverse(given_groups: tuple[list[Payload], list[tuple[Plane, ...]], list[int]]) -> None:
    payloads, planes, num_blocks = given_groups
    body = pack(payloads, planes)
    assert body.dtype == torch.uint8
    assert len(body) == body_bytes(planes, num_blocks)
    for sent, arrived in zip(payloads, unpack(body, planes, num_blocks), strict=True):
        assert torch.equal(sent.valid, arrived.valid)
        assert sent.planes.keys() == arrived.planes.keys()
        for name, plane in sent.planes.items():
            assert arrived[name].dtype == plane.dtype
            assert torch.equal(arrived[name], plane)


def test_the_layout_of_a_body() -> None:
    """Rows of one plane after another, little-endian and as long as they say; then all flags, eight to a byte."""
    rows = torch.tensor([2, 0, 1])
    a = Payload(torch.tensor([True, False, True]), {"w": torch.tensor([[1, 2], [9, 9], [-1, 9]])})
    b = Payload(torch.tensor([False] * 5 + [True]), {"s": torch.full((6, 1), 1.5)})
    body = pack([a, b], [(Plane("w", torch.int64, rows),), (Plane("s", torch.float32, 1),)])
    expected = struct.pack("<qqq", 1, 2, -1) + struct.pack("<6f", *[1.5] * 6) + bytes([0b00000101, 0b1])
    assert bytes(body.tolist()) == expected


def test_leading_axes() -> None:
    plane = (Plane("w", torch.int64, 2),)
    many = Payload(torch.rand(4, 5) < 0.5, {"w": random_plane(torch.int64, (4, 5, 2), 0)})
    together = pack([many], [plane])
    for i in range(4):
        alone = Payload(many.valid[i], {"w": many["w"][i]})
        assert torch.equal(together[i], pack([alone], [plane]))
    (arrived,) = unpack(together, [plane], [5])
    assert torch.equal(arrived["w"], many["w"])
    assert torch.equal(arrived.valid, many.valid)


@pytest.mark.parametrize("distance", [0, 3, 8])
def test_bodies_apart_in_memory(distance: int) -> None:
    """Read where they are if the items stand at multiples of their size, else from a copy."""
    plane = (Plane("w", torch.int64, 2), Plane("s", torch.float32, 1))
    w, s = random_plane(torch.int64, (4, 5, 2), 0), torch.randn(4, 5, 1)
    body = pack([Payload(torch.rand(4, 5) < 0.5, {"w": w, "s": s})], [plane])
    room = torch.zeros(4, body.shape[1] + distance, dtype=torch.uint8)
    room[:, : body.shape[1]] = body
    (arrived,) = unpack(room[:, : body.shape[1]], [plane], [5])
    assert torch.equal(arrived["w"], w) and torch.equal(arrived["s"], s)


@pytest.mark.parametrize("rows", [[2, 2, 2], [0, 0, 0], [2, 1, 2], []])
def test_rows_as_long_as_they_say(rows: list[int]) -> None:
    plane, width = (Plane("w", torch.int64, torch.tensor(rows, dtype=torch.int64)),), max(rows, default=0)
    w = random_plane(torch.int64, (len(rows), width + 1), 0)
    body = pack([Payload(torch.ones(len(rows), dtype=torch.bool), {"w": w})], [plane])
    (arrived,) = unpack(body, [plane], [len(rows)])
    assert arrived["w"].shape == (len(rows), width) and len(body) == 8 * sum(rows) + -(-len(rows) // 8)
    for row, sent, count in zip(arrived["w"], w, rows, strict=True):
        assert torch.equal(row[:count], sent[:count]) and not row[count:].any()


@pytest.mark.parametrize(("blocks", "row"), [(0, 5), (2, 0)])
def test_planes_without_bytes(blocks: int, row: int) -> None:
    plane = (Plane("s", torch.float32, row),)
    sent = Payload(torch.ones(3, blocks, dtype=torch.bool), {"s": torch.zeros(3, blocks, row)})
    (arrived,) = unpack(pack([sent], [plane]), [plane], [blocks])
    assert arrived["s"].shape == (3, blocks, row) and arrived["s"].dtype == torch.float32


def test_strided_planes() -> None:
    plane = (Plane("w", torch.int64, 2),)
    w = random_plane(torch.int64, (2, 5), 0).t()
    (arrived,) = unpack(pack([Payload(torch.ones(5, dtype=torch.bool), {"w": w})], [plane]), [plane], [5])
    assert torch.equal(arrived["w"], w)


@pytest.mark.parametrize("surplus", [-1, 1, -14])
def test_a_body_of_another_length(surplus: int) -> None:
    planes = [(Plane("w", torch.int64, 1),)]
    with pytest.raises(WireError, match="bytes"):
        unpack(torch.zeros(max(body_bytes(planes, [3]) + surplus, 0), dtype=torch.uint8), planes, [3])


@pytest.mark.parametrize("body", [b"", b"x", b"some body"])
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("sender", [0, SERVER])
def test_frame_and_unframe_are_inverse(body: bytes, kind: Kind, sender: int) -> None:
    header = Header(kind, sender, 2**64 - 1, 2**32 - 1, 2**64 - 1)
    sent = frame(torch.tensor(list(body), dtype=torch.uint8), header)
    assert len(sent) == HEADER_BYTES + len(body)
    assert bytes(unframe(sent, header).tolist()) == body


@pytest.mark.parametrize(
    "change",
    [{"kind": Kind.DECISION}, {"sender": 4}, {"step": 1}, {"attempt": 0}, {"recipe": 1}],
    ids=lambda c: next(iter(c)),
)
def test_a_message_for_something_else(change: dict[str, int]) -> None:
    name = next(iter(change))
    with pytest.raises(WireError, match=name):
        unframe(message(), HEADER._replace(**change))


@given(length=st.integers(0, HEADER_BYTES + 8))
def test_truncated(length: int) -> None:
    with pytest.raises(WireError, match=r"header|body"):
        unframe(message()[:length], HEADER)


def test_too_long() -> None:
    with pytest.raises(WireError, match="body"):
        unframe(message() + b"x", HEADER)


@given(position=st.integers(0, HEADER_BYTES + 8), flip=st.integers(1, 255))
def test_any_altered_byte_is_noticed(position: int, flip: int) -> None:
    altered = bytearray(message())
    altered[position] ^= flip
    with pytest.raises(WireError):
        unframe(bytes(altered), HEADER)


@given(garbage=st.binary(max_size=100), keep=st.integers(0, HEADER_BYTES), checked=st.booleans())
def test_garbage_raises_wire_errors_only(garbage: bytes, keep: int, checked: bool) -> None:
    """Also behind a true beginning, and with a checksum that fits."""
    text = bytearray(message()[:keep] + garbage)
    if checked and len(text) >= HEADER_BYTES:
        text[HEADER_BYTES - 4 : HEADER_BYTES] = bytes(4)
        text[HEADER_BYTES - 4 : HEADER_BYTES] = struct.pack("<I", zlib.crc32(text))
    try:
        body = unframe(bytes(text), HEADER)
    except WireError as error:
        assert str(error).endswith(".")
    else:
        assert len(body) == len(text) - HEADER_BYTES


def test_a_read_only_or_mutable_message() -> None:
    assert torch.equal(unframe(bytearray(message()), HEADER), unframe(message(), HEADER))  # type: ignore[arg-type]
    body = unframe(message(), HEADER)
    body.zero_()
    assert bytes(unframe(message(), HEADER).tolist()) == b"some body"


def test_rows_that_lie_apart_are_sent_from_where_they_lie() -> None:
    values, planes = torch.arange(48.0).view(6, 8), [(Plane("values", torch.float32, 8),)]
    payload = Payload(torch.tensor([True, False, True]), {"values": values[::2]})
    found = pieces([payload], planes)
    assert found[0].data_ptr() == values.data_ptr() and found[0].shape == (3, 32)
    copied = Payload(payload.valid, {"values": values[::2].contiguous()})
    assert torch.equal(joined(found), pack([copied], planes))
    assert torch.equal(pack([payload], planes), pack([copied], planes))
