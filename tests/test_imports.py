"""Who may import whom: lab.cli → lab.experiments → lab.train → {engines, algorithms, …} → parts → kernels → core.

A room is a file or folder directly in the package or in its lab. A room imports from lower tiers only, never from its
own tier; some are held shorter still; the library imports nothing of the lab. A new room fails until it has a place.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import gradvote
from gradvote.moved import new_name

ROOT = Path(gradvote.__file__).parent
TIERS: list[set[str]] = [
    {"fitting", "nouns", "staging"},
    {"__init__", "core", "errors", "moved", "ragged", "sources"},
    {"arguments", "discovery", "rng", "layout", "wire", "schedules", "shuffle"},
    {"scattered"},
    {"kernels"},
    {"transforms", "aggregators"},
    {"codecs"},
    {"recipes", "rounding", "algorithms", "faults", "partitions", "theory", "privacy"},
    {"optim"},
    {"engines"},
    {"ddp", "fsdp", "distributed", "elastic", "local_steps", "torchft", "flower"},
    {"integrations"},
]
"""The library."""
LAB: list[set[str]] = [
    {"lab", "lab.files", "lab.locks", "lab.memory", "lab.quantities", "lab.streams"},
    {"lab.data", "lab.models", "lab.plan"},
    {"lab.train", "lab.report", "lab.advice"},
    {"lab.experiments", "lab.bench"},
    {"lab.cli"},
    {"__main__"},
]
"""What stands above it."""
ONLY = {
    "core": {"fitting", "nouns"},
    "kernels": {"core", "errors", "ragged", "rng", "scattered", "staging"},
    "algorithms": {
        "core",
        "discovery",
        "sources",
        "errors",
        "fitting",
        "arguments",
        "schedules",
        "staging",
        "transforms",
        "codecs",
        "aggregators",
    },
    "engines": {
        "core",
        "errors",
        "ragged",
        "rng",
        "layout",
        "wire",
        "kernels",
        "faults",
        "privacy",
        "recipes",
        "rounding",
        "scattered",
        "staging",
    },
    "optim": {"core", "theory"},
}
BESIDE = {"engines/flower": {"aggregators", "privacy", "schedules", "shuffle"}}
"""What a folder may import beside what its room may: Flower's strategies have rules, and draw who is asked."""
EVERYWHERE = {"torch", "numpy", "gradvote"}
THIRD_PARTY = {
    "kernels": {"numba", "llvmlite"},
    "lab.data": {"PIL", "sklearn"},
    "engines": {"cryptography"},
    "theory": {"scipy"},
    "lab.report": {"matplotlib", "jinja2", "markupsafe", "rich"},
    "lab.experiments": {"matplotlib", "jinja2", "markupsafe", "scipy"},
    "lab.train": {"tensorboard"},
    "lab.bench": {"matplotlib", "numba", "rich", "scipy"},
    "lab.cli": {"cyclopts", "rich"},
    "privacy": {"dp_accounting", "cryptography"},
}
IN_ONE_FILE = {
    "torchft": "engines/torchft",
    "flwr": "engines/flower",
    "transformers": "integrations/transformers.py",
    "lightning": "integrations/lightning.py",
    "accelerate": "integrations/accelerate.py",
    "triton": "kernels/cuda",
    "etcd3gw": "engines/elastic/stores/etcd.py",
    "requests": "engines/elastic/stores/etcd.py",
}
MAPPED = [
    ".",
    "engines/common",
    "engines/distributed",
    "engines/elastic",
    "kernels/cpu",
    "kernels/cuda",
    "lab/cli",
    "lab/experiments",
    "lab/report",
    "lab/train",
]
"""Folders of more than a dozen files."""
FILES = sorted(ROOT.rglob("*.py"))
FRONT_DOORS = [ROOT / "__init__.py", ROOT / "lab" / "__init__.py"]
"""Each names what is above it and loads it when it is used."""


def room_of(path: Path) -> str:
    """The room a file belongs to."""
    return named([part.removesuffix(".py") for part in path.relative_to(ROOT).parts if part != "__init__.py"])


def named(parts: list[str]) -> str:
    """The room of a module, from its name's parts below `gradvote`."""
    own = parts[: 2 if parts[:1] == ["lab"] else 1]
    place = ROOT.joinpath(*own)
    is_module = place.is_dir() or place.with_suffix(".py").is_file()
    return ".".join(own if is_module else own[:-1]) or "__init__"


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """All that is written in a file."""
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """The full names of everything a file imports, also inside functions."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    package = ["gradvote", *path.relative_to(ROOT).parent.parts]
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def words_of(path: Path) -> Iterator[str]:
    """The strings of a file."""
    for node in nodes_of(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@cache
def rooms_used(path: Path) -> set[str]:
    """The other rooms a file imports from."""
    names = [name.split(".") for name in imported(path)]
    return {named(name[1:]) for name in names if name[0] == "gradvote"} - {room_of(path), "__init__"}


def tier_of(room: str) -> int:
    found = [i for i, tier in enumerate(TIERS + LAB) if room in tier]
    assert found, f"The room gradvote/{room} has no tier: give it one in {Path(__file__).name}."
    return found[0]


@pytest.mark.parametrize("path", [p for p in FILES if p not in FRONT_DOORS], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    room, used = room_of(path), rooms_used(path)
    upwards = {other for other in used if tier_of(other) >= tier_of(room)}
    assert not upwards, f"{room} must not import {upwards}."
    beside = BESIDE.get(path.relative_to(ROOT).parent.as_posix(), set())
    assert used <= ONLY.get(room, used) | beside, (
        f"{room} may import {ONLY[room]} only; it imports {used - ONLY[room]}."
    )


def test_the_library_never_imports_the_lab() -> None:
    """Not even for a type or inside a function; its front door names the lab, and does not load it."""
    library = [path for path in FILES if room_of(path).split(".")[0] not in {"lab", "__main__"}]
    users = {str(path.relative_to(ROOT)) for path in library for room in rooms_used(path) if room.startswith("lab")}
    assert users == {"__init__.py"}
    named = {str(p.relative_to(ROOT)) for p in library if any(w.startswith("gradvote.lab") for w in words_of(p))}
    assert named == {"moved.py"}, "nor by a name in a string"
    loaded = "import sys, gradvote.ddp, gradvote.distributed, gradvote.elastic, gradvote.theory\n"
    program = loaded + "print([name for name in sys.modules if name.startswith('gradvote.lab')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_our_own_files_use_no_old_names() -> None:
    """Names that other programs may use for one more release."""
    for path in FILES:
        assert not [name for name in imported(path) if new_name(name)], path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_third_party_packages_stay_in_their_rooms(path: Path) -> None:
    packages = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names)
    for package, home in IN_ONE_FILE.items():
        if str(path.relative_to(ROOT)).startswith(home):
            packages -= {package}
    strange = packages - EVERYWHERE - THIRD_PARTY.get(room_of(path), set())
    assert not strange, f"{path.name} imports {strange}."


def test_the_reader_sees_what_it_should() -> None:
    """A test that found no imports would pass always."""
    assert {"core", "errors", "kernels", "rng"} <= rooms_used(ROOT / "transforms" / "noise.py")
    assert rooms_used(ROOT / "core.py") == {"fitting", "nouns"} and rooms_used(ROOT / "nouns.py") == set()
    assert tier_of("core") < tier_of("codecs") < tier_of("engines") < tier_of("lab.cli")
    assert room_of(ROOT / "lab" / "plan.py") == "lab.plan" and room_of(ROOT / "lab" / "cli" / "demo.py") == "lab.cli"
    assert "lab.train" in rooms_used(ROOT / "lab" / "cli" / "demo.py")


@pytest.mark.parametrize("folder", MAPPED)
def test_large_folders_have_a_map(folder: str) -> None:
    """Their `__init__` names each file, so that a newcomer knows where to begin."""
    place = ROOT / folder
    told = ast.get_docstring(ast.parse((place / "__init__.py").read_text())) or ""
    files = {path.stem for path in place.glob("*.py")} - {"__init__", "__main__"}
    unnamed = {file for file in files if not re.search(rf"`(?:\w+\.)*{file}[`.]", told)}
    assert len(files) >= 12 and not unnamed, f"Say in {folder}/__init__.py what these are: {sorted(unnamed)}"
