"""README, docs and what else is Markdown here: their fenced blocks, and what stands in `backticks`."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "golden" / "README.md"])
FENCED = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block; `excuse` says why it is not run, where a comment `<!-- not run: why -->` stands before it."""

    file: Path
    line: int
    language: str
    text: str
    excuse: str = ""

    @property
    def place(self) -> str:
        """README.md:37."""
        return f"{self.file.relative_to(ROOT)}:{self.line}"

    @property
    def program(self) -> str:
        """The text; of a difference, what it is afterwards."""
        return self.side("-") if self.language == "diff" else self.text

    def side(self, gone: str) -> str:
        """A difference without the lines that begin with `gone` ("-": afterwards, "+": before)."""
        return "".join(line[1:] for line in self.text.splitlines(True) if not line.startswith(gone))


def blocks_of(file: Path) -> list[Block]:
    """The fenced blocks of a file."""
    return list(_blocks(file, file.read_text(encoding="utf-8")))


def _blocks(file: Path, text: str) -> Iterator[Block]:
    for found in FENCED.finditer(text):
        excuse = NOT_RUN.search(text, 0, found.start())
        line = text.count("\n", 0, found.start()) + 2
        own = textwrap.dedent(found["text"])
        yield Block(file, line, found["language"], own, excuse[1] if excuse else "")


def prose_of(file: Path) -> str:
    """A file without its fenced blocks."""
    return FENCED.sub("", file.read_text(encoding="utf-8"))


def spans_of(file: Path) -> list[str]:
    """What stands in backticks."""
    return SPAN.findall(prose_of(file))


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all files in these languages."""
    return [block for file in FILES for block in blocks_of(file) if block.language in languages]
