"""Programs made of the fragments of the documents, and the running of them."""

import ast
import contextlib
import doctest
import io
import os
import tempfile
import traceback
from pathlib import Path

from tests.documents.reading import Block

PRELUDE = ast.parse(Path(__file__).with_name("prelude.py").read_text(encoding="utf-8"))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def whole(program: str) -> str:
    """The program after those statements of the prelude that it needs."""
    wanted = missing(ast.parse(program))
    chosen: list[ast.stmt] = []
    for statement in reversed(PRELUDE.body):
        if wanted & made(statement):
            chosen.insert(0, statement)
            wanted |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return "\n".join([*map(ast.unparse, chosen), program])


def missing(program: ast.Module) -> set[str]:
    """The names that a program reads before it has made them, from top to bottom."""
    known: set[str] = set()
    wanted: set[str] = set()
    for statement in program.body:
        own = made(statement) | {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
        read = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        wanted |= read - known - (set() if isinstance(statement, ast.Assign) else own)
        known |= made(statement)
    return wanted


def made(statement: ast.stmt) -> set[str]:
    """The names that a statement binds at the top of a program."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def errors_of(blocks: list[Block]) -> dict[str, str]:
    """What running each of them raised; to be called on the one rank of a group."""
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for block in blocks:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    _run(block)
            except Exception:
                told[block.place] = traceback.format_exc(limit=-3)
    return told


def _run(block: Block) -> None:
    if block.language == "pycon":
        import gradvote

        test = doctest.DocTestParser().get_doctest(block.text, {"gradvote": gradvote}, block.place, None, 0)
        said = io.StringIO()
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.write)
        assert not said.getvalue(), said.getvalue()
        return
    exec(compile(whole(block.program), block.place, "exec"), {"__name__": "fragment"})  # our own documents
