"""The test vectors of docs/wire-format.md, recomputed."""

import re
from pathlib import Path

import pytest
import torch

from gradvote import kernels
from gradvote.core import Context
from gradvote.rng import Stream, draw

TEXT = (Path(__file__).parent.parent / "docs" / "wire-format.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-Z]+) \| ([0-9a-f]{16}) \| ([0-9a-f ]+) \|$", TEXT, re.MULTILINE)


def context(secret: bytes | None = None) -> Context:
    return Context(seed=7, step=3, block=torch.tensor([5]), sender=2, secret=secret)


@pytest.mark.parametrize(("stream", "key", "words"), ROWS)
def test_documented_words(stream: str, key: str, words: str) -> None:
    position = draw(context(), Stream[stream])
    assert f"{position.key:016x}" == key
    assert [f"{w:08x}" for w in kernels.random_words(position, 4)[0].tolist()] == words.split()


def test_all_documented_streams_are_found() -> None:
    assert len(ROWS) == 4


def test_documented_secret_and_mask() -> None:
    assert f"{draw(context(b'my secret'), Stream.NOISE).key:016x}" in TEXT
    mask = kernels.keep_bits(draw(context(), Stream.MASK), 64, round(0.3 * 65536))
    assert f"{int(mask[0, 0]) % 2**64:016x}" in TEXT
