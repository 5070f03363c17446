"""The command line in this process, in a folder of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gradvote.lab import cli
from gradvote.lab.files import PAGE_MARK
from gradvote.lab.report import html
from tests.lab.train.small import FACTORY

SMALL = ["--model", FACTORY, "--steps", "3", "--eval-every", "1"]


class Result(NamedTuple):
    """What a command left on the terminal."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that was printed, without line breaks."""
        return " ".join((self.out + self.err).split())


Run = Callable[..., Result]


@pytest.fixture
def gradvote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; what `train` and `compare` do is made small unless it is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    real = html.write_report

    def stub(scenes: object, path: Path, title: str, intro: str = "") -> Path:
        path.write_text(f"{PAGE_MARK}{title}")  # drawing the real one takes a second
        return path

    def run(*arguments: str, small: bool = True, page: bool = False) -> Result:
        monkeypatch.setattr(html, "write_report", real if page else stub)
        extra = SMALL if small and arguments[0] in ("train", "compare") else []
        pairs = zip(extra[::2], extra[1::2], strict=True)
        added = [text for pair in pairs if pair[0] not in arguments for text in pair]
        status = cli.run([*arguments, *added])
        return Result(status, *capsys.readouterr())

    return run
