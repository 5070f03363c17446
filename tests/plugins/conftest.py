"""Installed packages with parts: a folder, and beside it what an installer would have written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
Install = Callable[..., Path]


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
