"""One script of a stranger: where it is from, how it is run here, and a copy of it with the diffs applied."""

import hashlib
import re
import shutil
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
METHODS = ("plain", "signum", "dist_ef_adam", "dist_ef_sgdm")


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

    def votes_of(self, method: str) -> str:
        """The lines of gradvote for this method: NAME/METHOD.diff, where it needs others."""
        own = HERE / self.name / f"{method}.diff"
        return own.read_text() if own.exists() else self.votes

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
            texts = [self.here] if method == "plain" else [self.here, self.votes_of(method)]
            for path, hunks in (item for text in texts for item in parse(text).items()):
                (folder / path).write_text(apply(hunks, (folder / path).read_text()))
            if method != "plain":
                _choose(folder, parse(self.votes_of(method)), method)
            yield folder

    def arguments(self, values: dict[str, Any]) -> list[str]:
        """The script and what it is given."""
        return [str(a).format(**values) for a in self.about["run"]]


def load(name: str) -> Case:
    """By the name of its folder."""
    return Case(name, tomllib.loads((HERE / name / "script.toml").read_text()))


def names() -> list[str]:
    """All there are."""
    return sorted(path.parent.name for path in HERE.glob("*/script.toml"))


def _choose(folder: Path, changed: dict[str, Any], method: str) -> None:
    """`signum` is what the committed diff says."""
    for path in changed:
        text = (folder / path).read_text()
        (folder / path).write_text(re.sub(r"(gradvote\.algorithms\.)signum\b", rf"\g<1>{method}", text))
