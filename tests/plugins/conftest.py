"""Installed packages with parts: a folder, and beside it what an installer would have written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with `ef21_plugin`."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(HERE / "ef21_plugin", folder / "ef21_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    describe(folder, "ef21-plugin", {"all": "ef21_plugin"})
    return folder


def describe(folder: Path, name: str, points: dict[str, str]) -> None:
    """Write what an installer would have about a package with these entry points."""
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {module}" for point, module in points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[gradvote.plugins]", *lines, ""]))


def python(site: Path, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python with the packages of a folder installed."""
    path = os.pathsep.join([str(ROOT), str(site)])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


PROBE = """
import contextlib, io, json, sys
from gradvote.lab.cli import run
for line in json.loads(sys.argv[1]):
    if line.startswith("train") and "gradvote.lab.report" in sys.modules:
        from gradvote.lab.report import html
        html.write_report = lambda scenes, path, *rest: path.write_text(html.PAGE_MARK) and path
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = run(line.split())
    print(json.dumps([status, "torch" in sys.modules, out.getvalue()]))
"""


class Command(NamedTuple):
    """What a command of `gradvote` left."""

    status: int
    torch: bool
    said: str


def commands(site: Path, cwd: Path, lines: list[str]) -> list[Command]:
    """Commands one after the other in one process; drawings are left out."""
    found = python(site, "-c", PROBE, json.dumps(lines), cwd=cwd)
    assert found.returncode == 0, found.stderr
    return [Command(*json.loads(line)) for line in found.stdout.splitlines()]
