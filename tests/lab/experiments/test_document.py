"""What stands in docs/reproductions.md is told in sentences of a line each, where there are several."""

from gradvote.lab.experiments.document import _sentences


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
