import subprocess
import sys
from pathlib import Path

import pytest

from gradvote.engines.elastic.launcher import Launcher

EXAMPLE = Path(__file__).parents[3] / "examples" / "with_elastic.py"
DYING = """
import os, pathlib, sys
number, marks = os.environ["GRADVOTE_WORKER"], list(pathlib.Path(sys.argv[1]).glob("*"))
mark = pathlib.Path(sys.argv[1]) / f"{number}.{len(marks)}.{os.getpid()}"
first = not [m for m in marks if m.name.startswith(number)]
mark.touch()
sys.exit({"always": 3, "once": 3 if first else 0, "never": 0}[sys.argv[2]])
"""


@pytest.mark.parametrize(("how", "status", "starts"), [("never", 0, 2), ("once", 0, 4), ("always", 1, 4)])
def test_what_dies_is_started_again_but_not_for_ever(tmp_path: Path, how: str, status: int, starts: int) -> None:
    said: list[str] = []
    command = [sys.executable, "-c", DYING, str(tmp_path), how]
    assert Launcher(command, 2, 2, max_restarts=2, say=said.append).run() == status
    assert len(list(tmp_path.iterdir())) >= starts
    assert any("exit code 3; started again" in text for text in said) == (how != "never")
    assert any("the run has failed" in text for text in said) == (how == "always")


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="between 1 and workers"):
        Launcher(["x"], 2, 3)
    with pytest.raises(ValueError, match="nothing to launch"):
        Launcher([], 2, 1)


def test_the_example_runs_under_launch() -> None:
    command = ["launch", "--workers", "2", "--min-workers", "1", str(EXAMPLE), "--", "--steps", "30"]
    done = subprocess.run(
        [sys.executable, "-m", "gradvote", *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("after 30 steps") == 2
    assert "2 workers, at least 1" in done.stderr and "(deadline)" in done.stderr
