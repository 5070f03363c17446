"""What README and docs name in backticks, or link to, is there: public names, arguments, options, variables, files."""

import ast
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import gradvote
from gradvote.lab import cli
from tests.documents.commands import options_of, options_of_script
from tests.documents.reading import FILES, ROOT, prose_of, spans_of

INSIDE = ("CHANGELOG.md", "docs/decisions/", "CONTRIBUTING.md", "tests/golden/README.md")
"""Documents for contributors may name what is private."""
OF_OTHERS = {
    "--bind": "torchft's lighthouse",
    "--federation-config": "flwr run",
    "--node-config": "flower-supernode",
    "--stream": "flwr run",
    "--local-addr": "torchrun",
    "--rdzv-endpoint": "torchrun",
    "--requeue": "sbatch",
    "--signal": "sbatch",
}
ARGUMENTS_OF_OTHERS = {"resume_from_checkpoint": "Hugging Face's Trainer.train"}
PATHS = (
    r"^(?:bash |python )?((?:(?:benchmarks|docs|examples|scripts|tests)/[\w./*-]+)|(?:gradvote/[\w./*-]+(?:\.\w+|/)))$"
)
everywhere = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))


@cache
def public() -> dict[str, list[Callable[..., Any]]]:
    """All public functions, classes and methods by their own names."""
    found: dict[str, list[Callable[..., Any]]] = {}
    for value in members(gradvote, gradvote.__all__):
        for own in members(value, dir(value)) if inspect.ismodule(value) else [value]:
            for each in [own, *(vars(own).values() if inspect.isclass(own) else ())]:
                if inspect.isclass(each) or inspect.isfunction(each):
                    found.setdefault(each.__name__, []).append(each)
    return found


def members(holder: object, names: list[str]) -> Iterator[Any]:
    """What is public in a module."""
    return (getattr(holder, name) for name in names if not name.startswith("_"))


def parameters(own: Callable[..., Any]) -> set[str]:
    """The names of the arguments."""
    try:
        return set(inspect.signature(own).parameters)
    except ValueError:  # a class made in C
        return set()


def resolved(name: str) -> object:
    """What stands behind gradvote.x.y."""
    value: object = gradvote
    words = name.split(".")[1:]
    for place, word in enumerate(words):
        if inspect.ismodule(value) and not hasattr(value, word):
            importlib.import_module(".".join(["gradvote", *words[: place + 1]]))
        value = getattr(value, word)
    return value


@everywhere
def test_names_exist_and_are_public(file: Path) -> None:
    for name in re.findall(r"\bgradvote(?:\.[A-Za-z_]\w*)+", " ".join(spans_of(file))):
        if name == "gradvote.diff":  # a file
            continue
        with warnings.catch_warnings():
            if not str(file.relative_to(ROOT)).startswith(INSIDE):  # some of which tell what names were called before
                warnings.filterwarnings("error", "gradvote", DeprecationWarning)
            resolved(name)
        if not str(file.relative_to(ROOT)).startswith(INSIDE):
            assert name.split(".")[1] in gradvote.__all__, f"{name} is private"


@everywhere
def test_arguments_exist(file: Path) -> None:
    """`attach(placement="sharded")`, `max_norm=`."""
    everything = {argument for own in public().values() for each in own for argument in parameters(each)}
    for span in spans_of(file):
        if re.fullmatch(r"[a-z_]+=", span):
            assert span[:-1] in everything | {"lr"}, span
        elif re.fullmatch(r"[\w.]+\(.*\)", span):
            name, named = called(span)
            known = public().get(name, [])
            named -= ARGUMENTS_OF_OTHERS.keys()
            assert not known or any(named <= parameters(each) for each in known), f"{span}: {named}"


def called(span: str) -> tuple[str, set[str]]:
    """The last word of what is called, and the arguments it is given by name."""
    try:
        call = ast.parse(re.sub(r"=(?=[,)])", "=0", span.replace("…", "...")), mode="eval").body
    except SyntaxError:
        return "", set()
    assert isinstance(call, ast.Call)
    return ast.unparse(call.func).rpartition(".")[2], {k.arg for k in call.keywords if k.arg}


@cache
def all_options() -> set[str]:
    """Of all commands of gradvote, benchmarks and the soak."""
    commands = [cli.app[name] for name in cli.app if not name.startswith("-")]
    commands += [cli.app["bench"][name] for name in ("exchange", "kernels")]
    scripts = [*(ROOT / "benchmarks").glob("*.py"), ROOT / "tests" / "engines" / "elastic" / "soak.py"]
    found = [options_of(own) for own in commands if own.default_command] + [options_of_script(own) for own in scripts]
    return {option for own in found for option in own}


@cache
def sources() -> str:
    """The library and the examples."""
    files = [file for room in ("gradvote", "examples") for file in (ROOT / room).rglob("*.*")]
    return " ".join(f.read_text(encoding="utf-8") for f in files if f.suffix in (".py", ".sh", ".slurm", ".yaml"))


@everywhere
def test_options_exist(file: Path) -> None:
    """`--num-faulty`."""
    known = all_options() | {"--help", "--version"}
    for span in spans_of(file):
        if span.startswith("--"):
            assert re.split(r"[ =]", span)[0] in known | OF_OTHERS.keys(), span


@everywhere
def test_variables_of_the_environment_are_read(file: Path) -> None:
    for name in re.findall(r"\bGRADVOTE_[A-Z_]+", file.read_text(encoding="utf-8")):
        assert name in sources(), name


@everywhere
def test_files_and_links_exist(file: Path) -> None:
    for path in re.findall(PATHS, "\n".join(spans_of(file)), re.MULTILINE):
        assert list(ROOT.glob(path)), path
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(file)):
        place, _, anchor = link.partition("#")
        if "://" not in link:
            target = (file.parent / place).resolve() if place else file
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def anchors(file: Path) -> set[str]:
    """The anchors of a document: its headings, in small letters and dashes, and what it names itself."""
    text = file.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).strip().replace(" ", "-") for h in headings} | set(
        re.findall(r'(?:id|name)="([^"]+)"', text)
    )


def test_what_is_not_there_is_found() -> None:
    """Tests that resolved anything would pass always."""
    assert resolved("gradvote.suggest_lr") is gradvote.suggest_lr
    with pytest.raises((ImportError, AttributeError)):
        resolved("gradvote.ddp.detach")
    assert called("gradvote.elastic.attach(keys=)") == ("attach", {"keys"})
    assert "keys" in parameters(gradvote.elastic.attach) and len(public()["attach"]) >= 2
