"""Elastic votes beside plain torchft: pause after a SIGKILL, steps thrown away, a NaN, an inverting worker, bytes.

    python benchmarks/elastic_vs_torchft.py --out elastic.json

Three workers, the same model and batches. torchft: fp32 `Manager.allreduce` over gloo and SGD with momentum, as in its
examples, with default timeouts. Ours: Signum's majority vote with default timeouts. Both rates fall to zero on a line.
All runs in one network namespace of their own where that is allowed (root), whose loopback counts the bytes; otherwise
they are computed, and said to be. Needs `pip install 'gradvote[rivals]'`.
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import TCPStore

from gradvote import algorithms, elastic

os.environ.setdefault("RUST_LOG", "error")  # torchft's log has several lines a step
with contextlib.suppress(ImportError):  # `main` says what is missing
    from torchft.coordination import LighthouseServer
    from torchft.manager import Manager
    from torchft.process_group import ProcessGroupGloo

WORKERS, QUORUM, BATCH, LIAR, VICTIM = 3, 2, 16, 2, 1
INPUTS, CLASSES = 64, 10
OUR_RATE, THEIR_RATE = 0.0005, 0.01  # the best without faults, of four and of five in steps of 2
PAUSE_AT = 40
INSIDE = "GRADVOTE_BENCHMARK_INSIDE"


def new_model(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, CLASSES))


def batch(worker: int, step: int) -> tuple[Tensor, Tensor]:
    """Classes around fixed random centres."""
    centres = torch.randn(CLASSES, INPUTS, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1000 * step + worker)
    y = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    return centres[y] + 2.5 * torch.randn(BATCH, INPUTS, generator=generator), y


def held_out(model: nn.Module) -> float:
    with torch.no_grad():
        return statistics.fmean(
            float(nn.functional.cross_entropy(model(x), y)) for x, y in (batch(999, step) for step in range(16))
        )


def local_gradients(model: nn.Module, worker: int, step: int, how: str) -> None:
    nn.functional.cross_entropy(model(batch(worker, step)[0]), batch(worker, step)[1]).backward()
    if worker == LIAR and how != "honest":
        for p in model.parameters():
            assert p.grad is not None
            p.grad *= {"nan": torch.nan, "invert": -1.0, "invert x10": -10.0}[how]


class Diary:
    """What a worker writes: a line per step."""

    def __init__(self, folder: str, worker: int) -> None:
        self.path = Path(folder) / str(worker)

    def write(self, **line: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"at": time.monotonic(), **line}) + "\n")


def ours(folder: str, store: str, worker: int, o: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    model, diary = new_model(o["width"]), Diary(folder, worker)
    optimizer = torch.optim.SGD(model.parameters(), OUR_RATE)
    vote = elastic.attach(
        model, optimizer, algorithms.signum(), min_workers=QUORUM, worker=worker, workers=WORKERS, store=store
    )
    with vote:
        for step in vote.steps(o["steps"]):
            optimizer.zero_grad()
            local_gradients(model, worker, step, o["how"])
            optimizer.param_groups[0]["lr"] = OUR_RATE * (1 - step / o["steps"])
            time.sleep(o["rest"])
            began = time.monotonic()
            vote.step()
            diary.write(step=step, took=time.monotonic() - began, kept=True)
        stats = vote.stats()
    diary.write(loss=held_out(model), finite=finite(model), retried=stats.retried)


def theirs(folder: str, lighthouse: str, worker: int, o: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    model, diary = new_model(o["width"]), Diary(folder, worker)
    optimizer = torch.optim.SGD(model.parameters(), THEIR_RATE, momentum=0.9)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    limit = timedelta(seconds=10)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=limit), min_replica_size=QUORUM, rank=0, world_size=1, timeout=limit,
        store_addr="127.0.0.1", store_port=store.port, lighthouse_addr=lighthouse, replica_id=f"worker{worker}_",
        load_state_dict=model.load_state_dict, state_dict=model.state_dict, init_sync=False, hostname="127.0.0.1",
    )  # fmt: skip
    with contextlib.suppress(TimeoutError):  # a worker that is a step behind at the end finds nobody for its quorum
        while manager.current_step() < o["steps"]:
            their_step(manager, model, optimizer, worker, o, diary)
    diary.write(loss=held_out(model), finite=finite(model))
    time.sleep(1)
    manager.shutdown(wait=False)
    os._exit(0)


def their_step(
    manager: Any, model: nn.Module, optimizer: torch.optim.Optimizer, worker: int, o: dict[str, Any], diary: Diary
) -> None:
    step, began = manager.current_step(), time.monotonic()
    manager.start_quorum()
    took = time.monotonic() - began
    optimizer.zero_grad()
    local_gradients(model, worker, step, o["how"])
    optimizer.param_groups[0]["lr"] = THEIR_RATE * (1 - step / o["steps"])
    time.sleep(o["rest"])
    began = time.monotonic()
    works = [manager.allreduce(p.grad) for p in model.parameters() if p.grad is not None]
    for work in works:
        work.wait()
    kept = manager.should_commit()
    if kept:
        optimizer.step()
    diary.write(step=step, took=took + time.monotonic() - began, kept=kept)


def finite(model: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for p in model.parameters())


def play(engine: str, how: str, o: dict[str, Any]) -> dict[str, Any]:
    """One run: what its workers wrote, summed up; `how` "kill" kills a worker after some steps."""
    with tempfile.TemporaryDirectory() as folder:
        address, work, keep = meeting_place(engine)
        own = o | {"how": "honest" if how == "kill" else how}
        fresh = multiprocessing.get_context("spawn")
        processes = [fresh.Process(target=work, args=(folder, address, w, own)) for w in range(WORKERS)]
        for process in processes:
            process.start()
        try:
            killed, sent = watch(Path(folder), processes, how, o["steps"])
        finally:
            for process in processes:
                process.kill()
                process.join()
        del keep
        return summary(Path(folder), killed, sent, how, o["rest"])


def meeting_place(engine: str) -> tuple[str, Callable[..., None], object]:
    """The address of the store or of the lighthouse, the worker's work, and what must live as long as the run."""
    if engine == "gradvote":
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        return f"127.0.0.1:{store.port}", ours, store
    house = LighthouseServer("127.0.0.1:0", QUORUM)
    return house.address().replace(f"//{os.uname().nodename}:", "//127.0.0.1:"), theirs, house


def watch(folder: Path, processes: list[BaseProcess], how: str, steps: int) -> tuple[float, float | None]:
    """Until the survivors have finished: when the victim was killed, and bytes sent per step by each worker."""
    killed, marks, until = 0.0, list[tuple[int, int]](), time.monotonic() + 240
    while not all("loss" in text(folder, w) for w in range(WORKERS) if not (killed and w == VICTIM)):
        if time.monotonic() > until:
            raise SystemExit(f"The run ({how}) did not end; the workers: {[p.exitcode for p in processes]}")
        step = max(text(folder, w).count("took") for w in range(WORKERS))
        if how == "kill" and not killed and step >= PAUSE_AT:
            killed = time.monotonic()
            pid = processes[VICTIM].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        if 0.2 * steps < step < 0.9 * steps and (sent := loopback_bytes()) is not None:
            marks.append((step, sent))
        time.sleep(0.02)
    if len(marks) < 2 or marks[0][0] == marks[-1][0]:
        return killed, None
    return killed, (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0]) / WORKERS


def text(folder: Path, worker: int) -> str:
    path = folder / str(worker)
    return path.read_text() if path.exists() else ""


def summary(folder: Path, killed: float, sent: float | None, how: str, rest: float) -> dict[str, Any]:
    lines = {w: [json.loads(line) for line in text(folder, w).splitlines()] for w in range(WORKERS)}
    alive = [w for w in lines if not (killed and w == VICTIM)]
    steps = [line for w in alive for line in lines[w] if "took" in line]
    found = {"loss": lines[0][-1]["loss"], "finite": all(lines[w][-1]["finite"] for w in alive)}
    found |= {"exchange_ms": 1e3 * statistics.median(line["took"] for line in steps), "bytes_per_step": sent}
    found |= {
        "thrown_away": sum(not line["kept"] for line in lines[0] if "took" in line) + lines[0][-1].get("retried", 0)
    }
    if killed:
        kept = [[killed, *(x["at"] for x in lines[w] if x.get("kept") and x["at"] > killed)] for w in alive]
        found["pause_s"] = max(b - a for times in kept for a, b in pairwise(times)) - rest
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


def loopback_bytes() -> int | None:
    """Bytes that have passed the loopback of this namespace, if it is a private one."""
    if INSIDE not in os.environ:
        return None
    line = next(x for x in Path("/proc/self/net/dev").read_text().splitlines() if x.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def own_namespace() -> bool:
    """Begin again in a network namespace of its own, before libraries have threads; False where it is not allowed."""
    if INSIDE not in os.environ and os.geteuid() == 0 and shutil.which("unshare"):
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})
    if INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return INSIDE in os.environ


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--rest", type=float, default=0.01, help="seconds a worker rests before every exchange")
    parser.add_argument("--out", type=Path, default=Path("elastic_vs_torchft.json"))
    a = parser.parse_args()
    if importlib.util.find_spec("torchft") is None:
        sys.exit("This benchmark compares with torchft: pip install 'gradvote[rivals]'")
    private = own_namespace()
    o = {"steps": a.steps, "width": a.width, "rest": a.rest}
    num = sum(p.numel() for p in new_model(a.width).parameters())
    results: dict[str, Any] = {"parameters": num, "torch": torch.__version__, "torchft": "0.2.0", "workers": WORKERS}
    results["bytes"] = "counted on the loopback of a private namespace" if private else "not counted (no root)"
    results["computed_fp32_ring_bytes"] = 4 * num * 2 * (WORKERS - 1) // WORKERS
    for engine in ("gradvote", "torchft"):
        results[engine] = {}
        for how in ("honest", "kill", "nan", "invert", "invert x10"):
            results[engine][how] = play(engine, how, o)
            print(f"{engine:24} {how:12} {results[engine][how]}", flush=True)
    a.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
