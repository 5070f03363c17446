"""What the source of a part says, read without importing it: names, first lines, options, constants."""

import ast
import functools
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Described:
    """A function or class as its source tells: the docstring's first line, and the names of its parameters.

    `options` is None where the source alone does not tell them: another class is inherited from, or there is no
    function or class of that name at all.
    """

    summary: str
    options: tuple[str, ...] | None


def module_names(path: Iterable[str]) -> list[str]:
    """The sorted names of the public modules in a package's `__path__`."""
    return sorted(module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))


def class_name(module: str) -> str:
    """What the one public class of a file of parts is called: `anti_sign.py` holds `AntiSign`."""
    return "".join(word.capitalize() for word in module.split("_"))


def file_of(path: Iterable[str], module: str) -> Path:
    """The source of a module, or package, in a package's `__path__`."""
    places = [Path(folder) / name for folder in path for name in (f"{module}.py", f"{module}/__init__.py")]
    return next(place for place in places if place.is_file())


def summary_of(file: Path) -> str:
    """The first line of a module's docstring."""
    return _first_line(tree_of(file))


def function_in(file: Path, name: str) -> Described:
    """The function `name` of a file."""
    for node in tree_of(file).body:
        if isinstance(node, ast.FunctionDef) and node.name == name and node.args.kwarg is None:
            return Described(_first_line(node), _parameters(node))
    return Described("", None)


def functions_in(file: Path) -> dict[str, Described]:
    """The public functions of a file."""
    names = [node.name for node in tree_of(file).body if isinstance(node, ast.FunctionDef)]
    return {name: function_in(file, name) for name in names if not name.startswith("_")}


def only_class_in(file: Path, *bases: str) -> Described:
    """The one public class of a file, a dataclass that inherits from nothing, or from `bases` without any fields."""
    classes = [node for node in tree_of(file).body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    if len(classes) != 1:
        return Described("", None)
    [own] = classes
    fields = tuple(n.target.id for n in own.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name))
    known = {ast.unparse(parent) for parent in own.bases} <= set(bases)
    return Described(_first_line(own), fields if known else None)


def classes_in(file: Path, *bases: str) -> dict[str, str]:
    """The public classes of a file that inherit from something, or from `bases`, and their docstrings' first lines.

    A class whose name ends with that of a base is one, too (`WrapperCodec`); what inherits from ABC is no part.
    """
    classes = [node for node in tree_of(file).body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    parents = {node.name: [ast.unparse(parent) for parent in node.bases] for node in classes}
    parts = [n for n in classes if parents[n.name] and "ABC" not in parents[n.name]]
    wanted = [n for n in parts if not bases or any(parent.endswith(bases) for parent in parents[n.name])]
    return {node.name: _first_line(node) for node in wanted}


def constant_in(file: Path, name: str) -> Any:
    """The value of a module's constant: numbers, texts, tuples, sums and quotients of numbers; None without it."""
    for node in tree_of(file).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in targets):
            try:
                return _constant(node.value)
            except (ValueError, TypeError, ArithmeticError):
                return None
    return None


def _constant(node: ast.expr) -> Any:
    match node:
        case ast.Tuple(elts=items):
            return tuple(map(_constant, items))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _constant(left) + _constant(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _constant(left) / _constant(right)
    return ast.literal_eval(node)


def keys_in(file: Path, table: str) -> list[str]:
    """The keys of the dictionary of texts that a file assigns to the name `table`."""
    for node in tree_of(file).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        named = any(isinstance(target, ast.Name) and target.id == table for target in targets)
        if named and isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
    return []


@functools.cache
def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a source, parsed once."""
    return ast.parse(file.read_text(encoding="utf-8"))


def _first_line(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").strip().partition("\n")[0]


def _parameters(node: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(own.arg for own in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs))
