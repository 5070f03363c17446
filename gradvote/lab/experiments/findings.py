"""A claim's records with what follows from them: verdicts and a picture; and files written from those."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Claim, Outcome, Record, Scale, Verdict


@dataclass(frozen=True)
class Finding:
    """What one claim came to at one scale."""

    name: str
    claim: Claim
    scale: Scale
    records: Sequence[Record]
    tuning: Sequence[Record] = ()

    @cached_property
    def verdicts(self) -> list[Verdict]:
        return self.claim.judge(self.records)

    @cached_property
    def refused(self) -> list[list[str]]:
        """For each verdict the nulls that fail it."""
        each = {name: self.claim.judge(null(self.records)) for name, null in self.claim.nulls.items()}
        return [
            [name for name, verdicts in each.items() if verdicts[i].outcome is Outcome.NOT]
            for i in range(len(self.verdicts))
        ]

    @property
    def key(self) -> str:
        """What its files are called, and its section: the name, with the scale where it is not quick."""
        return key_of(self.name, self.scale)

    @property
    def figure(self) -> Figure:
        return self.claim.draw(self.records)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """All pictures by file name."""
        more = {f"{self.key}-{name}": draw(self.records) for name, draw in self.claim.pictures.items()}
        return {self.key: self.figure, **more}

    @property
    def seconds(self) -> float:
        return sum(r.seconds for r in (*self.tuning, *self.records))

    @property
    def made(self) -> list[str]:
        """On what the records were measured, in words."""
        return list(dict.fromkeys(", ".join(f"{k} {v}" for k, v in r.made.items()) for r in self.records if r.made))

    @property
    def tally(self) -> str:
        """3 reproduced, 1 not reproduced."""
        outcomes = [v.outcome for v in self.verdicts]
        return ", ".join(f"{outcomes.count(o)} {o}" for o in Outcome if o in outcomes)


def key_of(name: str, scale: Scale) -> str:
    """What a claim's files at a scale are called."""
    return name if scale == "quick" else f"{name}-{scale}"


def exports(name: str, scale: Scale, docs: Path) -> Path:
    """The file of a claim's records at a scale."""
    return docs / "figures" / f"{key_of(name, scale)}.jsonl"


def write(path: Path, text: str) -> Path:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial.replace(path)


def svg_file(figure: Figure, salt: str) -> str:
    """A figure as an SVG of its own on white, the same text for the same figure."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    lines = (line.rstrip() for line in buffer.getvalue().splitlines())
    return "\n".join(lines) + "\n"
