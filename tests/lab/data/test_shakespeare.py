"""The plays: cut at their openings, dealt evenly, refused when they are something else."""

from pathlib import Path

import pytest
import torch

from gradvote.lab.data import DataNotFoundError
from gradvote.lab.data.shakespeare import OPENINGS, dealt, divided, load

ROOT = Path(__file__).parents[3]
PLAYS = {name: opening + " x" * (50 * i) for i, (name, opening) in enumerate(OPENINGS.items())}


def test_each_play_is_what_stands_between_two_openings() -> None:
    plays = divided("".join(PLAYS.values()), Path("text"))
    for name, text in PLAYS.items():
        codes = torch.cat([plays.train[name], plays.held_out[name]])
        assert "".join(plays.alphabet[c] for c in codes) == text
        assert len(plays.held_out[name]) == int(0.1 * len(text))


@pytest.mark.parametrize("text", ["", "x" + "".join(PLAYS.values()), "".join(reversed(PLAYS.values()))])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the text of tiny Shakespeare"):
        divided(text, Path("text"))


def test_every_play_goes_to_one_worker_and_nobody_is_left_out() -> None:
    plays = {name: torch.zeros(len(text)) for name, text in PLAYS.items()}
    hands = dealt(plays, 4)
    assert sorted(name for hand in hands for name in hand) == sorted(PLAYS)
    sizes = [sum(len(PLAYS[name]) for name in hand) for hand in hands]
    assert min(sizes) > 0 and max(sizes) - min(sizes) <= max(map(len, PLAYS.values()))
    assert dealt(plays, 9) == [[name] for name in reversed(PLAYS)]


@pytest.mark.parametrize("workers", [0, 10])
def test_too_few_plays_for_the_workers(workers: int) -> None:
    with pytest.raises(ValueError, match="use 1 to 9"):
        dealt({name: torch.zeros(3) for name in PLAYS}, workers)


def test_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"input\.txt"):
        load(tmp_path)


def test_the_real_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    try:
        plays = load()
    except DataNotFoundError:
        pytest.skip("the file of tinyshakespeare is neither in GRADVOTE_DATA nor in ../shared/data")
    lengths = {name: len(plays.train[name]) + len(plays.held_out[name]) for name in OPENINGS}
    assert sum(lengths.values()) == 1_115_394 and len(plays.alphabet) == 65
    assert min(lengths.values()) > 30_000
