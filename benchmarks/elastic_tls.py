"""What encrypted connections cost the elastic engine: a step, its processor time, and the pause after a SIGKILL.

    python benchmarks/elastic_tls.py [--workers 3] [--sizes messages small 25m] [--steps 200] [--repeats 5]

Runs without keys and with certificates take turns, since other work on a machine comes and goes; the medians of both
are compared. `messages` is the processor time of one ballot's way between two ends, which other work changes least.
`small` is a classifier of 77,000 parameters with real gradients, `25m` a vote on 25 million drawn ones. All workers are
processes on this machine; their parameters are compared before anything is printed.
"""

import argparse
import hashlib
import os
import signal
import socket
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import torch
from torch import nn
from torch.distributed import TCPStore

from gradvote import algorithms, elastic
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.net.authentication import Credentials, secure
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.net.channels import Channel
from gradvote.engines.elastic.net.frames import Frame, FrameKind

WARM_UP = 5
KILLED, KILL_AT = 1, 40
Found = tuple[int, float, float, float, str]
"""Worker, seconds of a step, processor time of a step, the longest pause, the parameters' name."""


def small() -> nn.Module:
    """A classifier of 77,000 parameters."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 220), nn.ReLU(), nn.Linear(220, 16))


def gradients(model: nn.Module, generator: torch.Generator) -> None:
    """What a worker votes with."""
    if isinstance(model, nn.Linear):
        model.weight.grad = torch.randn(model.weight.shape, generator=generator)
        return
    x, y = torch.randn(32, 64, generator=generator), torch.randint(0, 16, (32,), generator=generator)
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()


def work(port: int, keys: str | None, worker: int, args: argparse.Namespace, size: str, steps: int, q: Queue) -> None:
    """One worker."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = small() if size == "small" else nn.Linear(5000, 5000, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    generator = torch.Generator().manual_seed(worker)
    vote = elastic.attach(
        model, optimizer, algorithms.signsgd(), min_workers=args.workers - args.kill, worker=worker,
        workers=args.workers, store=f"127.0.0.1:{port}", deadline=30.0, keys=keys,
    )  # fmt: skip
    marks, used = [], []
    with vote:
        for step in vote.steps(WARM_UP + steps):
            if args.kill and worker == KILLED and step == KILL_AT:
                os.kill(os.getpid(), signal.SIGKILL)
            gradients(model, generator)
            vote.step()
            marks.append(time.perf_counter())
            used.append(time.process_time())
    gaps = [b - a for a, b in pairwise(marks[WARM_UP:])]
    processor = (used[-1] - used[WARM_UP]) / len(gaps)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    name = hashlib.blake2b(flat.numpy().tobytes(), digest_size=16).hexdigest()
    q.put((worker, statistics.median(gaps), processor, max(gaps), name))


def measure(args: argparse.Namespace, size: str, steps: int, keys: str | None) -> list[Found]:
    """What each worker has found that came to the end."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    spawn = get_context("spawn")
    found: Queue = spawn.Queue()
    crew = [
        spawn.Process(target=work, args=(store.port, keys, worker, args, size, steps, found), daemon=True)
        for worker in range(args.workers)
    ]
    for process in crew:
        process.start()
    results = [found.get(timeout=600) for _ in range(args.workers - args.kill)]
    for process in crew:
        process.join()
    if len({name for *_, name in results}) > 1:
        raise SystemExit(f"The workers' parameters differ: {results}")
    return results


def compare(args: argparse.Namespace, size: str, steps: int, folder: str) -> None:
    """Print what was found without keys and with them."""
    found: dict[str, list[list[Found]]] = {"no keys": [], "keys": []}
    for repeat in range(args.repeats):
        order = list(found.items()) if repeat % 2 == 0 else list(found.items())[::-1]
        for how, own in order:
            own.append(measure(args, size, steps, folder if how == "keys" else None))
    medians = {}
    for how, own in found.items():
        each = [
            [max(f[i] for f in run) for run in own] for i in (1, 2, 3)
        ]  # the slowest worker, by repeat: seconds, processor, pause
        medians[how] = [statistics.median(x) for x in each]
        step, processor, pause = (1000 * x for x in medians[how])
        spread = ", ".join(f"{1000 * x:.2f}" for x in sorted(each[0]))
        print(f"{size:>6}  {how:<8}  {step:>8.2f} ms a step ({spread})  {processor:>8.2f} ms of processor", end="")
        print(f"  {pause:>8.1f} ms the longest pause" if args.kill else "", flush=True)
    before, after = medians["no keys"], medians["keys"]
    print(
        f"{size:>6}  keys cost {after[0] / before[0] - 1:+.1%} of a step, {after[1] / before[1] - 1:+.1%} of processor"
    )


def messages(folder: str) -> None:
    """Print the processor time of a ballot's way from one worker to another, both ends together."""
    for name, length in (("small", 77_000 // 8), ("25m", 25_000_000 // 8)):
        found = {}
        for keys in (False, True):
            near, far = channels(folder if keys else None)
            frame, num = Frame(FrameKind.BALLOT, 1, Slot(), bytes(length)), max(20, 10**7 // length)
            sender = threading.Thread(target=lambda c=far, f=frame, n=num: [c.send_frame(f) for _ in range(n)])
            start = time.process_time()
            sender.start()
            for _ in range(num):
                near.recv_frame({FrameKind.BALLOT: length})
            sender.join()
            found[keys] = 1000 * (time.process_time() - start) / num
            near.close()
            far.close()
        times = f"{found[False]:.3f} ms of processor plain, {found[True]:.3f} with TLS"
        print(f"{name:>6}  a ballot of {length:,} bytes: {times}", flush=True)


def channels(folder: str | None) -> list[Channel]:
    """Both ends of a connection on the loopback."""
    own = [None, None] if folder is None else [Credentials.load(folder, number) for number in (0, 1)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(secure, s, c, k == 0) for k, (s, c) in enumerate(zip((near, far), own, strict=True))]
        return [end.result() for end in ends]


def main() -> None:
    """Print a comparison for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument(
        "--sizes", nargs="+", choices=["messages", "small", "25m"], default=["messages", "small", "25m"]
    )
    parser.add_argument("--steps", type=int, default=200, help="steps of the small one; the large one takes a tenth")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kill", action="store_true", help="SIGKILL worker 1 at step 40; at least 60 steps")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_certificates(Path(folder), args.workers)
        if "messages" in args.sizes:
            messages(folder)
        for size in [size for size in args.sizes if size != "messages"]:
            compare(args, size, args.steps if size == "small" else max(args.steps // 10, 1), folder)


if __name__ == "__main__":
    main()
