"""What elastic members do, event by event, is what they did."""

from pathlib import Path

import pytest

from tests.golden.scenes import FILES, played


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    text = path.read_text()
    assert played(text) == text


def test_a_transcript_can_fail() -> None:
    """With the deadline a line earlier the others close, and say so."""
    text = next(path for path in FILES if path.stem == "healthy_replicated").read_text()
    assert played(text.replace("> deliver all", "> deadline all\n> deliver all")) != text.replace(
        "> deliver all", "> deadline all\n> deliver all"
    )
