"""How files under engines/ may know each other: by `common` only between engines, in no circle, one class a name."""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

import gradvote
from tests.test_imports import imported

ROOT = Path(gradvote.__file__).parent
ENGINES = ROOT / "engines"
FILES = {".".join(("gradvote", *path.relative_to(ROOT).with_suffix("").parts)): path for path in ENGINES.rglob("*.py")}
SHARED = {"common"}
"""What every engine may use."""
FAMILY = {"ddp": "distributed", "fsdp": "distributed", "pseudo_gradients": "gradients"}
FAMILY |= dict.fromkeys(("fragments", "overlap", "start"), "local_steps")
"""The hooks of DDP and FSDP are other doors to the rounds of `distributed`: one engine, over torch.distributed.
Pseudo-gradients of simulated workers are made of gradients; fragments are several local steps, which begin at a start
and may overlap with rounds."""


def engine_of(module: str) -> str:
    """The engine that a file belongs to: its folder or itself under engines/."""
    engine = module.removeprefix("gradvote.engines.").split(".")[0]
    return FAMILY.get(engine, engine)


def modules_used(path: Path) -> set[str]:
    """The files under engines/ that a file imports, also for type checkers only."""
    named = {name for full in imported(path) for name in (full, full.rpartition(".")[0])}
    return {name for name in named if name in FILES}


USED = {name: modules_used(path) - {name} for name, path in FILES.items()}


@pytest.mark.parametrize("name", sorted(FILES))
def test_an_engine_knows_no_other_one(name: str) -> None:
    own = engine_of(name)
    others = {used for used in USED[name] if engine_of(used) not in SHARED | {own, "__init__"}}
    assert not others, f"{name} imports {sorted(others)}: what two engines need belongs into engines/common."


def circle_in(used: Mapping[str, Set[str]]) -> list[str]:
    """A circle of imports, as a list that ends where it begins; empty where there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        for other in sorted(used.get(name, ())) if name not in done else ():
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(used) if (found := walk(name, []))), [])


def test_there_is_no_circle() -> None:
    """Nor one for type checkers only: a file can be read before those that need it."""
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert len(USED) > 60 and any(USED.values())
    assert not circle_in(USED)


def public_classes(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def test_the_reader_sees_what_it_should() -> None:
    """A test that found no imports would pass always."""
    assert "gradvote.engines.common.slot" in USED["gradvote.engines.elastic.node"]
    assert engine_of("gradvote.engines.ddp") == engine_of("gradvote.engines.distributed.exchange") == "distributed"


def test_no_two_classes_have_one_name() -> None:
    homes = defaultdict(list)
    for module, path in FILES.items():
        for name in public_classes(path):
            homes[name].append(module)
    assert len(homes) > 50
    assert not {name: where for name, where in homes.items() if len(where) > 1}
