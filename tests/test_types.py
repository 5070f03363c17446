"""The types that a user's type checker sees through `import gradvote`: right programs pass, mistakes are found.

One mypy process for all. gradvote is to it an installed, typed package; its cache is that of `mypy` in this folder.
"""

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradvote
from tests.documents.fragments import whole
from tests.documents.reading import Block, all_blocks

ROOT = Path(gradvote.__file__).parents[1]
PROGRAMS = Path(__file__).parent / "typing_programs"
LINE = re.compile(r"^(\w+)\.py:(\d+): (error|note): (.*?)(?:  \[([\w-]+)\])?$", re.MULTILINE)
CALLS = {"attr-defined", "call-arg", "arg-type", "name-defined", "call-overload", "import-not-found"}
Said = tuple[str, int, str, str, str]
"""File, line, kind (error or note), text, code."""
ANY_IS_MEANT = {
    "gradvote.metrics.reporter": "wandb, a writer, a path or a function",
    "gradvote.torchft.TorchftVote": "torchft's Manager, an extra that need not be there",
    "gradvote.torchft.attach": "the same",
    "gradvote.flower.NanSafeMedian": "Flower, an extra that need not be there",
    "gradvote.flower.NanSafeTrimmedMean": "the same",
    "gradvote.flower.VotedResult": "the same",
    "gradvote.flower.client_mod": "a mod, by Flower's types",
    "gradvote.local_steps.attach": "options of whatever engine is chosen",
    "gradvote.local_steps.attach_fragments": "the same",
    "gradvote.core.State": "nested dictionaries of tensors",
    "gradvote.core.SHORTCUTS": "functions by what they do",
    "gradvote.core.shortcut": "what it gives depends on what is done",
    "gradvote.lab.train.Record": "a dictionary of what a run records",
    "gradvote.ddp.OWN_BUFFERS": "options of DDP by names that depend on torch",
}


def public_names() -> Iterator[str]:
    """`gradvote.X` and `gradvote.X.Y` for all that is public at run time."""
    for name in gradvote.__all__:
        yield f"gradvote.{name}"
        value = getattr(gradvote, name)
        if inspect.ismodule(value):
            yield from (f"gradvote.{name}.{own}" for own in names_in(value))


def names_in(module: object) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    return [k for k, v in own.items() if getattr(v, "__module__", None) == getattr(module, "__name__", "")]


def checked(folder: Path) -> list[Said]:
    """What mypy says of the programs of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("MYPYPATH", None)
    options = ["--strict", f"--cache-dir={ROOT / '.mypy_cache'}", f"--config-file={ROOT / 'pyproject.toml'}"]
    command = [sys.executable, "-m", "mypy", *options, *sorted(p.name for p in folder.glob("*.py"))]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1) and not done.stderr, done.stdout[-2000:] + done.stderr
    return [(file, int(line), kind, text, code) for file, line, kind, text, code in LINE.findall(done.stdout)]


def test_types_as_users_see_them(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    for program in PROGRAMS.glob("*.py"):
        shutil.copy(program, tmp_path)
    names = list(public_names())
    (tmp_path / "shown.py").write_text("import gradvote\n" + "".join(f"reveal_type({name})\n" for name in names))
    documented = {f"block_{i}": block for i, block in enumerate(all_blocks("python", "diff"))}
    for name, block in documented.items():
        (tmp_path / f"{name}.py").write_text(whole(block.program))
    found = checked(tmp_path)
    assert not [said for said in found if said[0] == "right"]
    check_mistakes((tmp_path / "wrong.py").read_text(), found)
    check_shown(names, found)
    check_documents(documented, found)


def check_mistakes(program: str, found: list[Said]) -> None:
    """Each line's comment names the codes of its errors."""
    told = [(line, text, code) for file, line, kind, text, code in found if (file, kind) == ("wrong", "error")]
    for number, line in enumerate(program.splitlines(), 1):
        own = [(text, code) for at, text, code in told if at == number]
        assert sorted(code for _, code in own) == sorted(line.partition("  # ")[2].split()), (line, own)


def check_documents(blocks: dict[str, Block], found: list[Said]) -> None:
    """Names and arguments in README and docs exist, also where a block is not run. (A name may get a new type.)"""
    assert not [(blocks[file].place, text) for file, _, _, text, code in found if file in blocks and code in CALLS]


def check_shown(names: list[str], found: list[Said]) -> None:
    """No public name is Any, or takes or gives just anything, unless that is meant."""
    shown = {line: text for file, line, kind, text, _ in found if (file, kind) == ("shown", "note")}
    wrong = [text for file, _, kind, text, _ in found if (file, kind) == ("shown", "error")]
    assert not wrong, f"public at run time, but not to type checkers: {wrong}"
    assert len(shown) == len(names)
    loose = {name for at, name in enumerate(names, 2) if re.search(r'(type is "|: |-> |list\[)Any\b', shown[at])}
    assert loose <= set(ANY_IS_MEANT), [shown[names.index(name) + 2] for name in sorted(loose - set(ANY_IS_MEANT))]
