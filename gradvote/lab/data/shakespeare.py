"""Tiny Shakespeare: nine plays in 1,115,394 characters, as codes; the text of Karpathy's char-rnn (MIT).

The file has no titles: each play begins with its first speech.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gradvote.lab.data.folders import Files

OPENINGS = {
    "Coriolanus": "First Citizen:\nBefore we proceed any further",
    "Richard III": "GLOUCESTER:\nNow is the winter of our discontent",
    "Richard II": "KING RICHARD II:\nOld John of Gaunt",
    "Romeo and Juliet": "SAMPSON:\nGregory, o' my word",
    "Henry VI, Part 3": "WARWICK:\nI wonder how the king escaped",
    "The Winter's Tale": "ARCHIDAMUS:\nIf you shall chance, Camillo",
    "Measure for Measure": "DUKE VINCENTIO:\nEscalus.",
    "The Taming of the Shrew": "SLY:\nI'll pheeze you, in faith.",
    "The Tempest": "Master:\nBoatswain!",
}
HELD_OUT = 0.1
FILES = Files(
    name="tinyshakespeare",
    subfolders=(".", "tinyshakespeare"),
    groups=(("input.txt",),),
    origin="the file data/tinyshakespeare/input.txt of karpathy/char-rnn (about 1 MB)",
)


@dataclass(frozen=True, eq=False)
class Plays:
    """The characters of each play as indices into `alphabet`, int64 vectors; the last tenth of each is held out."""

    alphabet: str
    train: dict[str, Tensor]
    held_out: dict[str, Tensor]


def load(data_dir: str | Path | None = None) -> Plays:
    """The plays, from the folders where every data set is looked for.

    Raises:
        DataNotFoundError: the file is in none of them.
        ValueError: the file is not this text.
    """
    path = FILES.locate(data_dir)[0][0]
    return divided(path.read_text(encoding="utf-8"), path)


def divided(text: str, path: Path) -> Plays:
    """The text cut where the plays begin. Raises ValueError where one is missing or out of order."""
    starts = [text.find(opening) for opening in OPENINGS.values()]
    if starts[0] != 0 or starts != sorted(set(starts)):
        raise ValueError(
            f"{path} is not the text of tiny Shakespeare: the nine plays do not follow each other in it. "
            f"Fetch it again: {FILES.origin}."
        )
    alphabet = "".join(sorted(set(text)))
    index = {character: i for i, character in enumerate(alphabet)}
    codes = torch.tensor([index[character] for character in text])
    plays = dict(zip(OPENINGS, torch.tensor_split(codes, starts[1:]), strict=True))
    cuts = {name: len(play) - int(HELD_OUT * len(play)) for name, play in plays.items()}
    return Plays(
        alphabet,
        {name: play[: cuts[name]] for name, play in plays.items()},
        {name: play[cuts[name] :] for name, play in plays.items()},
    )


def dealt(plays: dict[str, Tensor], workers: int) -> list[list[str]]:
    """The names of each worker's own plays: the longest play first, each to the worker with the fewest characters.

    Raises:
        ValueError: there are more workers than plays.
    """
    if not 1 <= workers <= len(plays):
        raise ValueError(f"{len(plays)} plays cannot be dealt to {workers} workers; use 1 to {len(plays)} of them.")
    hands: list[list[str]] = [[] for _ in range(workers)]
    for name in sorted(plays, key=lambda name: -len(plays[name])):
        min(hands, key=lambda hand: sum(len(plays[n]) for n in hand)).append(name)
    return hands
