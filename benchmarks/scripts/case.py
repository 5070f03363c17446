"""One script of a stranger: where it is from, how it is run here, and a copy of it with the diffs applied."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffs import apply, parse

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
METHODS = ("plain", "signum", "dist_ef_sgdm")


@dataclass(frozen=True)
class Case:
    """What `NAME/script.toml` says, see there."""

    name: str
    about: dict[str, Any]

    @property
    def here(self) -> str:
        return (HERE / self.name / "here.diff").read_text()

    @property
    def votes(self) -> str:
        return (HERE / self.name / "gradvote.diff").read_text()

    def check(self, root: Path) -> Path:
        """The folder of the clone, if its files are those of the commit."""
        folder = root / str(self.about["repository"]).rsplit("/", 1)[1]
        for path, expected in self.about["files"].items():
            if not (folder / path).exists():
                raise SystemExit(f"{folder / path} is missing. {self.clone()}")
            content = (folder / path).read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            if blob != expected:
                raise SystemExit(f"{folder / path} is not that of commit {self.about['commit']}. {self.clone()}")
        return folder

    def clone(self) -> str:
        """How to get it."""
        folder = str(self.about["repository"]).rsplit("/", 1)[1]
        return f"git clone {self.about['repository']} && git -C {folder} checkout {self.about['commit']}"

    @contextmanager
    def copy(self, root: Path, data: Path, method: str) -> Iterator[Path]:
        """A folder with its files, changed for here and, but for `plain`, for votes."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for path in self.about["files"]:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.check(root) / path, folder / path)
            for source, target in self.about.get("data", {}).items():
                shutil.copyfile(data / source, folder / target)
            texts = [self.here] if method == "plain" else [self.here, self.votes]
            for path, hunks in (item for text in texts for item in parse(text).items()):
                (folder / path).write_text(apply(hunks, (folder / path).read_text()))
            if method != "plain":
                _choose(folder, parse(self.votes), method)
            yield folder

    def start(self, folder: Path, environment: dict[str, str], values: dict[str, Any]) -> list[subprocess.Popen[str]]:
        """Both processes, or torchrun that starts them."""
        script, *arguments = [str(a).format(**values) for a in self.about["run"]]
        cwd = folder / self.about.get("in", ".")
        inside = [str(HERE / "inside.py"), script, *arguments]
        for command in self.about.get("before", []):
            subprocess.run([sys.executable, *command], cwd=cwd, env=environment, check=True, capture_output=True)
        if self.about.get("launch") == "torchft":
            each = [{"REPLICA_GROUP_ID": str(i), "NUM_REPLICA_GROUPS": "2", "RANK": "0"} for i in range(2)]
            more = {"WORLD_SIZE": "1", "MASTER_ADDR": "localhost"}
            return [
                _popen([sys.executable, *inside], cwd, environment | more | own | {"MASTER_PORT": free_port()})
                for own in each
            ]
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
        return [_popen([sys.executable, *torchrun, *inside], cwd, environment)]


def load(name: str) -> Case:
    """By the name of its folder."""
    return Case(name, tomllib.loads((HERE / name / "script.toml").read_text()))


def names() -> list[str]:
    """All there are."""
    return sorted(path.parent.name for path in HERE.glob("*/script.toml"))


def environment(data: Path, result: Path, seed: int, factor: float) -> dict[str, str]:
    """What the processes are told; one thread for each."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), str(HERE), os.environ.get("PYTHONPATH", "")]))
    own = {"TINY_SEED": str(seed), "TINY_FACTOR": str(factor), "TINY_RESULT": str(result), "GRADVOTE_DATA": str(data)}
    quiet = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **own, **quiet, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def free_port() -> str:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return str(probe.getsockname()[1])


def _choose(folder: Path, changed: dict[str, Any], method: str) -> None:
    """`signum` is what the committed diff says."""
    for path in changed:
        text = (folder / path).read_text()
        (folder / path).write_text(re.sub(r"(gradvote\.algorithms\.)signum\b", rf"\g<1>{method}", text))


def _popen(command: list[str], cwd: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
