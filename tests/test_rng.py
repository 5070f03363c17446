"""The generator is Philox4x32-10 of Salmon et al. 2011, its words in the documented order."""

import hashlib
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote import kernels
from gradvote.core import SERVER, Context
from gradvote.kernels.reference import philox
from gradvote.rng import PRIVATE, Draw, Stream, derive_key, draw, root_of

KNOWN_ANSWERS = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]
"""Random123's kat_vectors for philox4x32, 10 rounds: counter, key, output."""
KEY = 0x299F31D0A4093822


def one(value: int) -> torch.Tensor:
    return torch.tensor([value])


def spot(block: int = 5, sender: int = 9, key: int = KEY) -> Draw:
    return Draw(key, one(block), torch.tensor(sender))


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    words = philox(tuple(one(c) for c in counter), key[0] | key[1] << 32)  # type: ignore[arg-type]
    assert [int(w) for w in words] == expected


@pytest.mark.parametrize("sender", [0, 9, SERVER])
def test_words_are_numbered_as_documented(sender: int) -> None:
    """Word i, with t = i // 64 and r = i % 64, is output 2·(r // 32) + r % 2 of counter 16·t + (r % 32) // 2."""
    words = kernels.random_words(spot(sender=sender), 150)[0].tolist()
    for i, word in enumerate(words):
        t, r = divmod(i, 64)
        q, lane = 16 * t + (r % 32) // 2, 2 * (r // 32) + r % 2
        outputs = philox((one(q), one(5), one(sender), one(0)), KEY)
        assert word == int(outputs[lane])
        assert 0 <= word < 2**32


def test_keys_are_blake2b_of_root_stream_step_attempt() -> None:
    message = b"root" + struct.pack("<IQI", 4, 2**40, 3)
    expected = hashlib.blake2b(message, digest_size=8, person=b"gradvote").digest()
    assert derive_key(b"root", Stream.NOISE, 2**40, 3) == int.from_bytes(expected, "little")


def test_roots() -> None:
    ctx = Context(5, 0, one(0), 0)
    secret = Context(5, 0, one(0), 0, secret=b"abc")
    for stream in Stream:
        public = b"public:" + struct.pack("<Q", 5)
        derived = b"derived:" + struct.pack("<Q", 5)
        assert root_of(ctx, stream) == (derived if stream in PRIVATE else public)
        assert root_of(secret, stream) == (b"secret:abc" if stream in PRIVATE else public)


def test_negative_seeds_are_seeds() -> None:
    assert draw(Context(-1, 0, one(0), 0), Stream.MASK).key == draw(Context(2**64 - 1, 0, one(0), 0), Stream.MASK).key


@given(n=st.integers(0, 300), block=st.integers(0, 2**32 - 1), sender=st.integers(0, 2**32 - 1))
def test_a_longer_draw_begins_like_a_shorter_one(n: int, block: int, sender: int) -> None:
    place, limit = spot(block, sender), 20_000
    assert torch.equal(kernels.random_words(place, 300)[..., :n], kernels.random_words(place, n))
    long = kernels.unpack_bits(kernels.random_bits(place, 300), n)
    assert torch.equal(long, kernels.unpack_bits(kernels.random_bits(place, n), n))
    kept = kernels.unpack_bits(kernels.keep_bits(place, 300, limit), n)
    assert torch.equal(kept, kernels.unpack_bits(kernels.keep_bits(place, n, limit), n))
    assert torch.equal(kernels.noise(place, 300, "gaussian")[..., :n], kernels.noise(place, n, "gaussian"))


def test_bits_and_masks_from_words() -> None:
    """Coordinate j's fair bit is bit j % 32 of word j // 32; its mask number is a half of word j // 2."""
    place, n, limit = spot(), 200, 30_000
    words = kernels.random_words(place, n)[0].tolist()
    bits = kernels.unpack_bits(kernels.random_bits(place, n), n)[0].tolist()
    assert bits == [bool(words[j // 32] >> j % 32 & 1) for j in range(n)]
    kept = kernels.unpack_bits(kernels.keep_bits(place, n, limit), n)[0].tolist()
    assert kept == [(words[j // 2] >> 16 * (j % 2) & 0xFFFF) < limit for j in range(n)]
    coarse = kernels.unpack_bits(kernels.keep_bits(place, n, limit, 64), n)[0].tolist()
    assert coarse == [(words[j // 64 // 2] >> 16 * (j // 64 % 2) & 0xFFFF) < limit for j in range(n)]


@pytest.mark.parametrize("n", [0, 1, 7, 63, 64, 65, 130])
@pytest.mark.parametrize("granularity", [1, 64])
def test_bits_beyond_the_block_are_zero(n: int, granularity: int) -> None:
    place = spot()
    for words in (kernels.random_bits(place, n), kernels.keep_bits(place, n, 65536, granularity)):
        assert words.shape == (1, kernels.num_words(n))
        flags = kernels.unpack_bits(words, 64 * kernels.num_words(n))
        assert not bool(flags[..., n:].any())
    assert int(kernels.count_bits(kernels.keep_bits(place, n, 65536, granularity))) == n
    assert int(kernels.count_bits(kernels.keep_bits(place, n, 0, granularity))) == 0


@pytest.mark.parametrize("keep", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_the_share_that_is_kept(keep: float) -> None:
    """Within 5 standard deviations, and unrelated between neighbours."""
    n = 2**17
    kept = kernels.unpack_bits(kernels.keep_bits(spot(), n, round(65536 * keep)), n)[0].double()
    deviation = (keep * (1 - keep) / n) ** 0.5
    assert abs(float(kept.mean()) - keep) < 5 * deviation + 2**-16
    together = float((kept[1:] * kept[:-1]).mean())
    assert abs(together - keep**2) < 5 * (keep / n) ** 0.5


def test_fair_bits_are_fair_at_every_place() -> None:
    draws = Draw(KEY, torch.arange(4096), torch.tensor(0))
    bits = kernels.unpack_bits(kernels.random_bits(draws, 130), 130).double()
    assert float((bits.mean(0) - 0.5).abs().max()) < 5.5 * 0.5 / 64
    assert float((bits.mean(1) - 0.5).abs().max()) < 5.5 * 0.5 / 130**0.5


def test_streams_rows_and_senders_are_uncorrelated() -> None:
    """All pairs of 60 draws of 4096 bits: the largest correlation of independent ones is about 0.06."""
    rows = []
    for stream in Stream:
        for step in (0, 1):
            ctx = Context(1, step, torch.arange(5)[:, None], torch.tensor(0))
            rows.append(kernels.unpack_bits(kernels.random_bits(draw(ctx, stream), 4096), 4096).flatten(0, -2))
    x = torch.cat(rows).double() * 2 - 1
    correlation = x @ x.T / 4096
    correlation.fill_diagonal_(0)
    assert float(correlation.abs().max()) < 0.09
