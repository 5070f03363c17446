import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gradvote import algorithms
from gradvote.elastic import attach
from gradvote.engines.elastic.launcher import Launcher
from gradvote.engines.elastic.refusals import taken

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


REFUSED = """
import os, pathlib, sys
number = os.environ["GRADVOTE_WORKER"]
pathlib.Path(sys.argv[1], f"{number}.{os.environ['GRADVOTE_RESTARTS']}").touch()
if number == "0":
    pathlib.Path(os.environ["GRADVOTE_REFUSALS"], number).write_text("worker 0 has no weight")
    sys.exit(1)
"""


def test_who_is_refused_again_is_not_started_for_ever_and_the_reason_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    launcher = Launcher([sys.executable, "-c", REFUSED, str(tmp_path)], 2, 1, say=said.append)
    assert launcher.run() == 0 and sorted(p.name for p in tmp_path.iterdir()) == ["0.0", "0.1", "1.0"]
    assert "was refused again, as it will be until that is mended (worker 0 has no weight)" in said[-1]
    assert not Path(launcher.environment["GRADVOTE_REFUSALS"]).exists()


def test_a_worker_that_is_refused_tells_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADVOTE_REFUSALS", str(tmp_path))
    monkeypatch.setenv("GRADVOTE_WORKER", "3")
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="attach needs min_workers"):
        attach(model, optimizer, algorithms.signsgd())
    assert taken(tmp_path, 3).startswith("attach needs min_workers") and taken(tmp_path, 3) == ""
