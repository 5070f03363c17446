import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FunctionType

import pytest
import torch
import torch.distributed as dist

from gradvote.engines.launch import spawn
from gradvote.errors import WorkerFailed


def rank_and_tensor(scale: float) -> tuple[int, torch.Tensor]:
    x = torch.ones(5) * scale
    dist.all_reduce(x)
    return dist.get_rank(), x


def failing(kind: str) -> None:
    if dist.get_rank() == 1:
        if kind == "exit":
            os._exit(7)
        raise KeyError("a name that rank 1 did not find")
    dist.all_reduce(torch.ones(1))


def test_results_come_in_order_of_ranks() -> None:
    results = spawn(rank_and_tensor, 2, 3.0)
    assert [rank for rank, _ in results] == [0, 1]
    assert all(x.tolist() == [6.0] * 5 for _, x in results)


@pytest.mark.parametrize(("kind", "text"), [("raise", "a name that rank 1 did not find"), ("exit", "exit code 7")])
def test_the_rank_at_fault_shows_its_own_traceback(kind: str, text: str) -> None:
    with pytest.raises(WorkerFailed, match="Rank 1 failed") as failure:
        spawn(failing, 2, kind, timeout=30)
    assert text in str(failure.value)


def test_a_world_needs_a_rank() -> None:
    with pytest.raises(ValueError, match="at least one process"):
        spawn(rank_and_tensor, 0, 1.0)


def waiting(folder: str) -> str:
    """Until SIGTERM, which is answered once."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    Path(folder, str(os.getpid())).touch()
    while not asked:
        time.sleep(0.01)
    time.sleep(0.3)  # a second SIGTERM would be seen here
    return f"asked {len(asked)} times"


def run_until_asked(folder: str) -> None:
    print(spawn(waiting, 2, folder, graceful=True))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc, to see whether a process has ended")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ranks_are_asked_once_and_never_outlive_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    call = f"from {__name__} import run_until_asked as go; go({str(tmp_path)!r})"
    parent = subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while len(ranks := [int(path.name) for path in tmp_path.iterdir()]) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(parent.pid, how) if how == signal.SIGINT else parent.send_signal(how)
        out, _ = parent.communicate(timeout=30)
        while any(Path(f"/proc/{rank}").exists() for rank in ranks) and time.monotonic() < until:
            time.sleep(0.02)
        assert len(ranks) == 2 and not any(Path(f"/proc/{rank}").exists() for rank in ranks)
        assert out.strip() == ("" if how == signal.SIGKILL else "['asked 1 times', 'asked 1 times']")
    finally:
        parent.kill()


def test_what_a_new_process_cannot_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever types into a notebook was told an exit code."""
    typed = FunctionType(rank_and_tensor.__code__, {}, "typed")
    typed.__module__ = "__main__"
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>", raising=False)
    for fn in (typed, lambda: 1):
        with pytest.raises(ValueError, match=r"cannot be imported.*Put it at the top of a file"):
            spawn(fn, 2)
