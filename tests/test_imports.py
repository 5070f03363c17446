"""Who may import whom: cli → experiments → train → {engines, algorithms, …} → parts → kernels → core.

A room is a file or folder directly in the package. A room imports from lower tiers only, never from its own tier; some
are held shorter still. A new room fails until it has a place here.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradvote

ROOT = Path(gradvote.__file__).parent
TIERS: list[set[str]] = [
    {"__init__", "core", "errors", "files", "locks", "quantities", "sources", "staging", "streams"},
    {"arguments", "discovery", "rng", "layout", "wire", "schedules"},
    {"kernels"},
    {"transforms", "aggregators"},
    {"codecs"},
    {"recipes", "algorithms", "faults", "data", "models", "optim", "theory", "privacy"},
    {"engines"},
    {"ddp", "distributed", "elastic", "torchft", "flower", "plan"},
    {"train", "report", "integrations"},
    {"experiments", "bench"},
    {"cli"},
    {"__main__"},
]
ONLY = {
    "core": set(),
    "kernels": {"core", "errors", "rng"},
    "algorithms": {
        "core",
        "discovery",
        "sources",
        "errors",
        "arguments",
        "schedules",
        "staging",
        "transforms",
        "codecs",
        "aggregators",
    },
    "engines": {"core", "errors", "rng", "layout", "wire", "kernels", "faults", "recipes", "staging"},
    "optim": set(),
}
EVERYWHERE = {"torch", "numpy", "gradvote"}
THIRD_PARTY = {
    "kernels": {"numba", "llvmlite"},
    "data": {"PIL", "sklearn"},
    "engines": {"cryptography"},
    "theory": {"scipy"},
    "report": {"matplotlib", "jinja2", "markupsafe", "rich"},
    "experiments": {"matplotlib", "jinja2", "markupsafe", "scipy"},
    "train": {"tensorboard"},
    "bench": {"matplotlib", "numba", "rich", "scipy"},
    "cli": {"cyclopts", "rich"},
    "privacy": {"opacus", "dp_accounting"},
}
IN_ONE_FILE = {
    "torchft": "engines/torchft",
    "flwr": "engines/flower",
    "transformers": "integrations/transformers.py",
    "lightning": "integrations/lightning.py",
    "accelerate": "integrations/accelerate.py",
}
FILES = sorted(ROOT.rglob("*.py"))
FRONT_DOOR = ROOT / "__init__.py"  # names what is above it and loads it when it is used


def room_of(path: Path) -> str:
    """The room a file belongs to."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The full names of everything a file imports, also inside functions."""
    package = ["gradvote", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = (base + (node.module or "")).rstrip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms_used(path: Path) -> set[str]:
    """The other rooms a file imports from."""
    names = [name.split(".") for name in imported(path)]
    used = {
        n[1] if (ROOT / n[1]).is_dir() or (ROOT / f"{n[1]}.py").is_file() else "__init__"
        for n in names
        if n[0] == "gradvote" and len(n) > 1
    }
    return used - {room_of(path), "__init__"}


def tier_of(room: str) -> int:
    found = [i for i, tier in enumerate(TIERS) if room in tier]
    assert found, f"The room gradvote/{room} has no tier: give it one in {Path(__file__).name}."
    return found[0]


@pytest.mark.parametrize("path", [p for p in FILES if p != FRONT_DOOR], ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    room, used = room_of(path), rooms_used(path)
    upwards = {other for other in used if tier_of(other) >= tier_of(room)}
    assert not upwards, f"{room} must not import {upwards}."
    assert used <= ONLY.get(room, used), f"{room} may import {ONLY[room]} only; it imports {used - ONLY[room]}."


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
    assert rooms_used(ROOT / "core.py") == set()
    assert tier_of("core") < tier_of("codecs") < tier_of("engines") < tier_of("cli")
