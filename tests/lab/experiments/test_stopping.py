"""Ctrl-C ends `Crew` within a step, begins nothing, keeps what can be resumed; its processes never outlive it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from gradvote.lab.experiments.claim import Bench, Cell, Claim, Numbers, Record, Scale, Verdict
from gradvote.lab.experiments.crew import measure
from gradvote.lab.experiments.pace import Board
from gradvote.lab.experiments.records import Store
from tests.lab.train.small import FACTORY

ROOT = str(Path(__file__).parents[3])


def cells(scale: Scale) -> list[Cell]:
    return [{"kind": "trains"}, {"kind": "computes"}, *({"kind": "waits", "number": n} for n in range(4))]


def one(cell: Cell, bench: Bench) -> Numbers:
    from gradvote.lab.experiments.training import train

    mark = bench.folder.with_suffix(".begun")
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{cell['kind']} {os.getpid()}")
    if cell["kind"] == "trains":
        known = {"steps": 1000000, "algorithm": "signsgd", "model": FACTORY, "workers": 2, "evaluate_every": 1000}
        return train({**known, "seed": 0}, bench)
    while True:
        sum(range(10000))


def judge(records: Sequence[Record]) -> list[Verdict]:
    return []


def draw(records: Sequence[Record]) -> Figure:
    return Figure()


CLAIM = Claim("A test", "Nobody, 2020", "By hand.", cells, one, judge, draw)


def go(folder: str) -> None:
    def told(board: Board) -> None:
        if len(board.running) == 2 and any(piece.share for piece in board.running):
            Path(folder, "at work").touch()

    measure(CLAIM, "quick", Store(Path(folder)), told, processes=2)


def within(seconds: float, what: object) -> bool:
    until = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.02)
    return bool(found)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc, to see whether a process has ended")
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_all_end_and_what_trained_can_go_on(tmp_path: Path, how: signal.Signals) -> None:
    code = f"from gradvote.engines.common.signals import sigterm_interrupts as s\nfrom {__name__} import go\n"
    code += f"if __name__ == '__main__':\n    with s():\n        go({str(tmp_path)!r})"
    script = tmp_path / "script.py"
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": ROOT}
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True, env=env, stderr=subprocess.PIPE)
    try:
        assert within(120, lambda: (tmp_path / "at work").exists() or process.poll() is not None)
        marks = [mark.read_text().split() for mark in tmp_path.glob("*.begun")]
        assert sorted(kind for kind, _ in marks) == ["computes", "trains"]
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as the terminal does
        else:
            process.send_signal(how)
        asked = time.monotonic()
        assert within(20, lambda: all(gone(int(pid)) for _, pid in marks))
        process.wait(20)
        assert time.monotonic() - asked < 20
        assert len(list(tmp_path.glob("*.begun"))) == 2 and not list(tmp_path.glob("*.json"))
        [run] = tmp_path.glob("*/run.json")
        assert '"status": "interrupted"' in run.read_text() and (run.parent / "checkpoint.pt").is_file()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
