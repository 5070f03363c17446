"""The commands that documents, docstrings and messages name, and whether what they name understands them."""

import ast
import importlib
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import pytest
from cyclopts import App, MissingArgumentError

from gradvote.lab import cli
from tests.documents.reading import FILES, ROOT, all_blocks, spans_of

SOURCES = sorted(file for room in ("gradvote", "examples", "benchmarks") for file in (ROOT / room).rglob("*.py"))
OURS = ("gradvote", "python", "bash", "sbatch", "srun", "torchrun", "pytest")
OTHERS = {"git", "pip", "cd", "flwr"}
"""Programs of others: nothing of ours is called."""
WORK = (
    "gradvote.lab.bench.exchange.run_locally",
    "gradvote.lab.bench.kernels.run_kernels",
    "gradvote.lab.cli.ranks.spawn",
    "gradvote.lab.cli.reporting.load_run",
    "gradvote.lab.cli.side_by_side.Crew",
    "gradvote.lab.data.load",
    "gradvote.engines.elastic.launcher.Launcher.run",
    "gradvote.engines.elastic.stores.server.serve",
    "gradvote.lab.experiments.crew.Crew",
    "gradvote.lab.plan.predict",
    "gradvote.lab.train.ready",
    "gradvote.privacy.epsilon_of",
    "gradvote.privacy.noise_multiplier_for",
)
"""Where the work of a command begins, after all that was typed has been looked at."""


class Reached(Exception):
    """All was understood; the work would begin."""


def reached(*_: object, **__: object) -> NoReturn:
    """In place of the work."""
    raise Reached


def lines_of_blocks() -> list[tuple[str, str]]:
    """Every line of the shell in fenced blocks, and its place."""
    found = [(block, line) for block in all_blocks("sh") for line in block.text.splitlines() if line.strip()]
    return [(f"{block.file.name}: {line.strip()}", line.strip()) for block, line in found]


def spans() -> list[str]:
    """Every command in backticks, in documents and in the texts of the sources; what is filled in later is left out."""
    texts = {span for file in FILES for span in spans_of(file)}
    for file in SOURCES:
        texts |= set(re.findall(r"`([^`\n]+)`", file.read_text(encoding="utf-8")))
    return sorted(
        text for text in texts if text.split(" ")[0] in OURS and " " in text and "{" not in text and " -c " not in text
    )


def usages() -> list[tuple[Path, str]]:
    """What sources say on lines of their own: "For instance: gradvote …", "python benchmarks/exchange.py [--ranks]"."""
    pattern = re.compile(
        r"^ *(?:scripts/with-links \w+ )?((?:gradvote|python|torchrun|srun) [a-z-].*?)(?: {3,}.*)?$", re.MULTILINE
    )
    return [
        (file, found)
        for file in SOURCES
        for found in pattern.findall(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")
    ] + [
        (file, found)
        for file in SOURCES
        if file.parent.name == "cli"
        for found in re.findall(r"For instance: (gradvote .*)", file.read_text(encoding="utf-8"))
    ]


def words_of(line: str) -> list[str]:
    """A command's words: no comment, nothing behind a pipe, no dots for what is left out, a number for N."""
    own = shlex.split(line.partition("|")[0], comments=True)
    return ["2" if word == "N" else word for word in own if word not in ("…", "...")]


def check(line: str, mention: bool = False) -> None:
    """Raise where a command is not understood. A mention may leave out what is needed; what it names exists."""
    words = words_of(line)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    match words:
        case ["gradvote", *arguments] | ["python", "-m", "gradvote", *arguments]:
            check_gradvote(arguments, mention)
        case ["python", "-m", module, *arguments]:
            place = module.replace(".", "/")
            check_script(f"{place}/__main__.py" if (ROOT / place).is_dir() else f"{place}.py", arguments)
        case ["python", script, *arguments]:
            check_script(script, arguments)
        case ["srun", "python", script, *_]:  # which hands the rest to a script of the user's
            assert (ROOT / script).is_file()
        case ["torchrun", *rest]:
            script = next(word for word in rest if word.endswith(".py"))
            check_script(script, rest[rest.index(script) + 1 :])
        case ["bash", script]:
            assert (ROOT / script).is_file()
        case ["sbatch", script, *arguments]:
            assert (ROOT / script).is_file()
            check_gradvote(["train", *arguments], mention)
        case ["pytest", "-m", "slow", *places] | ["pytest", *places]:
            assert places and all((ROOT / place).exists() for place in places)
        case [first, *_] if first.startswith("examples/"):
            assert (ROOT / first).is_file()
            for name in re.findall(r"\b([A-Z_]+)=", line.partition(first)[0]):
                assert f"{name}:" in (ROOT / first).read_text(encoding="utf-8"), f"{first} reads no {name}"
        case [first, *_]:
            assert first in OTHERS, f"tests/documents/commands.py does not know what {first} is"


def check_gradvote(arguments: list[str], mention: bool) -> None:
    """Run up to where the work begins."""
    name, values = arguments[0] if arguments else "--help", dict(pairwise(arguments))
    try:
        cli.app.parse_args(arguments, exit_on_error=False, print_error=False)
    except MissingArgumentError:
        assert mention, "something is missing"
        unknown = options_in(arguments) - options_of(cli.app[name])
        assert not unknown, f"gradvote {name} has no {unknown}"
        return
    if mention and len(arguments) == 1:
        return
    if "--resume" in values:
        return  # a folder of a run is needed: test_the_commands_of_the_docs_run has one
    for script in (word for word in arguments if word.endswith(".py")):
        Path(script).parent.mkdir(parents=True, exist_ok=True)
        Path(script).touch()
    if "--keys" in values:
        assert cli.run(["keys", values["--keys"], "--workers", values.get("--workers", "2")]) == 0
    try:
        assert cli.run(arguments) == 0, "see what it printed"
    except Reached:
        return


def check_script(script: str, arguments: list[str]) -> None:
    """It is there, and its parser has the options."""
    unknown = options_in(arguments) - options_of_script(ROOT / script)
    assert not unknown, f"{script} has no {unknown}"


def options_in(words: list[str]) -> set[str]:
    """The options among words."""
    return {word.strip("[]").partition("=")[0] for word in words if word.strip("[]").startswith("--")} - {"--"}


def options_of(command: App) -> set[str]:
    """The names of a command's options."""
    return {name for argument in command.assemble_argument_collection() for name in argument.names}


def options_of_script(file: Path) -> set[str]:
    """The options that a script adds to its parser, or those of the command of gradvote to which it hands all on."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    added = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "add_argument"]
    compared = [node.left for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    named = {a.value for a in [*(a for c in added for a in c.args), *compared] if isinstance(a, ast.Constant)}
    handed = [c.args[0].elts for c in calls if c.args and isinstance(c.args[0], ast.List)]
    for elements in handed:
        if any(isinstance(e, ast.Starred) and ast.unparse(e.value) == "sys.argv[1:]" for e in elements):
            command = cli.app
            for word in (e.value for e in elements if isinstance(e, ast.Constant)):
                command = command[word]
            named |= options_of(command)
    return named


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands stop where their work would begin, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    for file in sorted((ROOT / "gradvote/lab/experiments/claims").glob("[!_]*.py")):
        importlib.import_module(
            f"gradvote.lab.experiments.claims.{file.stem}"
        )  # else it would keep what stands in here
    for place in WORK:
        monkeypatch.setattr(place, reached)
