"""The two processes of a script: forked, with the variables that torchrun sets, so that torch is imported once.

A fork costs nothing, an import of torch and transformers seconds; and a cell trains for not much longer.
"""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
TIMEOUT = 1500


def prepare() -> None:
    """Before torch is imported: one thread, no compiler, no network; then what the scripts import anyway."""
    os.environ.update(OMP_NUM_THREADS="1", TORCHDYNAMO_DISABLE="1", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
    import torch

    import gradvote

    torch.set_num_threads(1)
    for lazy in ("ddp", "algorithms", "optim", "suggest_lr"):  # asking for one imports it
        getattr(gradvote, lazy)
    with suppress(ImportError, RuntimeError):
        import torchvision  # noqa: F401  # only to see whether it can be imported

        return
    sys.modules["torchvision"] = None  # type: ignore[assignment]  # one for another torch is as good as none


def run(body: Callable[[], None], folder: Path, log: Path, environment: dict[str, str], torchft: bool) -> bool:
    """Two processes that call `body` in `folder`; whether both ended well. What they print is in `log`."""
    port = _free_port()
    pids = [_fork(body, folder, log, environment | _variables(rank, port, torchft)) for rank in range(2)]
    end, codes = time.monotonic() + TIMEOUT, {}
    while len(codes) < len(pids):
        for pid in set(pids) - set(codes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if any(codes.values()) or time.monotonic() > end:  # the other one would wait for it
            for pid in set(pids) - set(codes):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return False
        time.sleep(0.05)
    return True


def _variables(rank: int, port: str, torchft: bool) -> dict[str, str]:
    if torchft:
        return {"REPLICA_GROUP_ID": str(rank), "NUM_REPLICA_GROUPS": "2"}
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    return {"MASTER_ADDR": "localhost", "MASTER_PORT": port, **{k: str(v) for k, v in names.items()}}


def _fork(body: Callable[[], None], folder: Path, log: Path, environment: dict[str, str]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1), os.dup2(out, 2)
        os.environ.update(environment)
        os.chdir(folder)
        body()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return str(probe.getsockname()[1])
