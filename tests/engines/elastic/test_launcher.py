import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gradvote import algorithms
from gradvote.elastic import attach
from gradvote.engines.elastic import launcher
from gradvote.engines.elastic.environment import host_of
from gradvote.engines.elastic.launcher import Launcher
from gradvote.engines.elastic.net.authentication import Credentials
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.refusals import taken
from gradvote.errors import MissingExtra

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


def test_a_run_on_one_machine_makes_its_own_certificates() -> None:
    launcher = Launcher([sys.executable, "-c", "pass"], 2, 1, say=lambda text: None)
    folder = Path(launcher.environment["GRADVOTE_KEYS"])
    assert folder.stat().st_mode & 0o777 == 0o700
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "ca.pem",
        *(f"{stem}.{kind}" for stem in ("register", "worker-0", "worker-1") for kind in ("pem", "key")),
    }
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.glob("*.key")) and "ca.key" not in names
    assert Launcher(["x"], 2, 1, say=lambda text: None).environment["GRADVOTE_KEYS"] != str(folder)
    assert launcher.run() == 0 and not folder.exists(), "they are for this run"


def test_without_keys_it_says_so() -> None:
    said: list[str] = []
    launcher = Launcher([sys.executable, "-c", "pass"], 1, 1, insecure=True, say=said.append)
    assert "GRADVOTE_KEYS" not in launcher.environment and launcher.environment["GRADVOTE_INSECURE"] == "1"
    assert launcher.run() == 0 and any("--insecure: anyone who reaches" in text for text in said)
    with pytest.raises(ValueError, match="leave out --keys or --insecure"):
        Launcher(["x"], 1, 1, insecure=True, keys=Path("keys"))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gradvote.engines.elastic.net.certificates", raising=False)
    monkeypatch.delattr("gradvote.engines.elastic.net.certificates", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match=r"gradvote\[cli\]"):
        Launcher(["x"], 1, 1)


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.7", False)],
)
def test_without_keys_a_worker_listens_on_the_loopback_only(
    host: str, own: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GRADVOTE_INSECURE", raising=False)
    write_certificates(tmp_path, 1)
    assert host_of(host, Credentials.load(tmp_path, 0), insecure=False) == host_of(host, None, insecure=True) == host
    if own:
        assert host_of(host, None, insecure=False) == host
    else:
        with pytest.raises(ValueError, match=r"Without keys a worker listens on the loopback only.*`gradvote keys"):
            host_of(host, None, insecure=False)
        monkeypatch.setenv("GRADVOTE_INSECURE", "1")
        assert host_of(host, None, insecure=False) == host


AFTER_THE_END = """
import os, sys, time, torch, gradvote
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
worker = int(os.environ["GRADVOTE_WORKER"])
if worker == 2:
    time.sleep(600)  # still on its way when the others have finished
with gradvote.elastic.attach(model, optimizer, gradvote.algorithms.signsgd(), insecure=True) as vote:
    for step in vote.steps(10):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        vote.step()
        if sys.argv[2] == "stops early" and step == 1:
            break
if worker == 0:
    time.sleep(4)  # evaluates, saves
    open(sys.argv[1], "w").write("saved")
elif sys.argv[2] == "fails":
    sys.exit(3)
"""


@pytest.mark.parametrize("end", ["finishes", "stops early", "fails"])
def test_who_took_part_is_left_to_save_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """However long that takes; who was started too late to take part is ended, and all of it is said."""
    monkeypatch.setattr(launcher, "EARLY", 1.0)
    said: list[str] = []
    command = [sys.executable, "-c", AFTER_THE_END, str(tmp_path / "model"), end]
    status = Launcher(command, 3, 2, insecure=True, say=said.append).run()
    assert (tmp_path / "model").read_text() == "saved"
    assert any("worker 2 was started too late to take part, and is ended" in text for text in said)
    assert any(
        "worker 1 ended with exit code 3, when others were done; it is not started again" in text for text in said
    ) == (end == "fails")
    assert (status, "have ended without an error" in said[-1]) == ((1, True) if end == "fails" else (0, False))


def test_who_does_not_leave_is_killed_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "LEAVING", 0.3)
    said: list[str] = []
    script = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    )
    own = Launcher([sys.executable, "-c", script, str(tmp_path / "up")], 1, 1, insecure=True, say=said.append)
    assert own.run(lambda: own.stop() if (tmp_path / "up").exists() else None) == 130
    assert said[-1] == "gradvote launch: worker 0 had not left 0 s after it was asked to, and is killed"
