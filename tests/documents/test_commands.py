"""Every command that README, docs, docstrings and messages name is one: it is run up to where its work would begin.

Cheap ones are run to their end.
"""

import shlex
import shutil
from pathlib import Path

import pytest

from gradvote.lab import cli, plan
from tests.documents.commands import check, dry, lines_of_blocks, spans, usages, words_of
from tests.documents.reading import all_blocks

__all__ = ["dry"]
LINES, SPANS, USAGES = lines_of_blocks(), spans(), usages()


@pytest.mark.usefixtures("dry")
@pytest.mark.parametrize("line", [line for _, line in LINES], ids=[name for name, _ in LINES])
def test_lines_of_blocks(line: str) -> None:
    check(line)


@pytest.mark.usefixtures("dry")
@pytest.mark.parametrize("span", SPANS)
def test_commands_in_backticks(span: str) -> None:
    check(span, mention=True)


@pytest.mark.usefixtures("dry")
@pytest.mark.parametrize(("file", "line"), USAGES, ids=[f"{file.name}: {line[:60]}" for file, line in USAGES])
def test_usage_in_the_sources(file: Path, line: str) -> None:
    check(line.replace("[", "").replace("]", ""), mention=True)


def test_the_commands_of_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, shortened; going on; a report; and all that only tells."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "SAMPLE", 1 << 16)
    [block] = [own for own in all_blocks("sh") if own.file.name == "command-line.md"]
    lines = [words_of(line)[1:] for line in block.text.splitlines()]
    run = [
        words for words in lines if words[0] in ("list", "plan", "report") or "--list" in words or "--resume" in words
    ]
    first = next(words for words in lines if words[0] == "train")
    first[first.index("--steps") + 1] = "2"
    assert cli.run(first) == 0
    for name in ("a", "b"):
        shutil.copytree("runs/noisy-signsgd", f"runs/{name}")
    assert len(run) == 5
    for words in run:
        assert cli.run([*words, *(["--steps", "3"] if words[0] == "train" else [])]) == 0, words
    assert Path("report.html").stat().st_size > 10_000


@pytest.mark.usefixtures("dry")
@pytest.mark.parametrize(
    "line",
    [
        "gradvote algorithms",
        "gradvote train --algorithm signsdg",
        "gradvote train --fault invrt",
        "gradvote train --engine elastic --kill 2",
        "gradvote reproduce figure-9 --scale quick",
        "gradvote train --nosuch 3",
        "python benchmarks/exchange.py --nosuch 3",
        "python benchmarks/kernels.py --nosuch",
        "bash scripts/nothing",
        "FOO=1 examples/clusters/torchrun-two-hosts.sh train.py",
        "mpirun train.py",
        "pytest tests/nothing",
    ],
)
def test_mistakes_are_told(line: str) -> None:
    """A test that understood everything would pass always."""
    with pytest.raises(Exception) as told:
        check(line, mention=True)
    assert shlex.split(line) and not isinstance(told.value, SystemExit)
