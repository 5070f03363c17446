"""What stands in docs/reproductions.md is told in sentences of a line each, where there are several."""

from pathlib import Path

from gradvote.lab.experiments.costs import Cost
from gradvote.lab.experiments.document import _measured, _sentences


def test_sentences_become_a_list_and_lose_nothing() -> None:
    long = (
        "Five workers, as in Chen et al. 2020, Algorithm 3; paper scale: MNIST. " * 3
        + "Rates are halved. "
        + "X y " * 60
    )
    lines = _sentences(long.strip()).split("\n")
    assert [line[:2] for line in lines] == ["- "] * 5 + ["  "] * (len(lines) - 5)
    assert max(map(len, lines)) <= 150
    assert " ".join(line[2:] for line in lines) == " ".join(long.split())


def test_one_sentence_stays_one() -> None:
    assert _sentences("One worker, from 0 on [-1, 1].") == "One worker, from 0 on [-1, 1]."


def test_a_part_of_the_records_is_counted(tmp_path: Path) -> None:
    cost, file = Cost("figure-9", 2, 3, 10, 10, 0.1, 0.1), tmp_path / "figure-9-medium.jsonl"
    assert _measured(cost, file) == "not yet"
    file.write_text("head\none\ntwo\n")
    assert _measured(cost, file) == "2 of 5"
