"""Run a script as it is, and write down what gradvote did in it: in each process that `run.py` starts.

Nothing of the script is changed here, but that `gradvote.suggest_lr` gives TINY_FACTOR times what it suggests.
"""

import json
import logging
import math
import os
import runpy
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import tiny
from torch.optim.optimizer import register_optimizer_step_post_hook

import gradvote
import gradvote.optim

OURS = str(Path(gradvote.__file__).parent)
TORCHFT = "REPLICA_GROUP_ID" in os.environ
seen: list[str] = []
votes: list[Any] = []
suggested: list[Any] = []
steps: Counter[int] = Counter()
sizes: dict[int, int] = {}


def listen() -> None:
    """Warnings that a user would see and that come from gradvote; its log, too."""
    shown = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        frame = sys._getframe(1)
        while frame.f_back and frame.f_code.co_filename.endswith("warnings.py"):
            frame = frame.f_back
        if frame.f_code.co_filename.startswith(OURS):
            seen.append(str(message))
        shown(message, category, filename, lineno, file, line)

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    warnings.showwarning = show
    logging.getLogger("gradvote").addHandler(Seen(logging.WARNING))


def count() -> None:
    """Votes as they are made, steps of each optimizer, and the rate that was suggested."""
    kinds: list[Any] = [gradvote.ddp.DDPVote, gradvote.distributed.Exchange]
    if TORCHFT:
        from gradvote.engines.torchft.vote import TorchftVote

        kinds.append(TorchftVote)
    for kind in kinds:
        _remember(kind)
    register_optimizer_step_post_hook(stepped)
    suggest, factor = gradvote.suggest_lr, float(os.environ.get("TINY_FACTOR", "1"))

    def scaled(*arguments: Any, **more: Any) -> Any:
        rate = suggest(*arguments, **more)
        suggested.append(rate)
        return [r * factor for r in rate] if isinstance(rate, list) else rate * factor

    gradvote.suggest_lr = gradvote.optim.suggest_lr = scaled


def stepped(optimizer: Any, *_: Any) -> None:
    """An optimizer took a step."""
    steps.update([id(optimizer)])
    sizes[id(optimizer)] = sum(p.numel() for group in optimizer.param_groups for p in group["params"])


def _remember(kind: Any) -> None:
    made = kind.__init__

    def init(self: Any, *arguments: Any, **more: Any) -> None:
        made(self, *arguments, **more)
        votes.append(self)

    kind.__init__ = init


def result(seconds: float) -> dict[str, Any]:
    """What this process has to tell."""
    stats = [vote.stats() for vote in votes]
    return {
        **{k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in tiny.REPORT.items()},
        "votes": [getattr(s, "steps", getattr(s, "step", 0)) for s in stats],
        "optimizer_steps": sorted(steps.values()),
        "coordinates": [getattr(s, "coordinates", sum(sizes.values())) for s in stats],
        "bytes_sent": [getattr(s, "bytes_sent", 0) for s in stats],
        "suggested": suggested,
        "warnings": list(dict.fromkeys(seen)),
        "seconds": round(seconds, 1),
    }


def lighthouse() -> Any:
    """torchft's, for two replicas."""
    from torchft.coordination import LighthouseServer

    return LighthouseServer(bind="[::]:0", min_replicas=2, join_timeout_ms=10_000, quorum_tick_ms=20)


def store(address: str) -> Any:
    """What torchrun gives each replica group."""
    from torch.distributed import TCPStore

    own = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    group = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": str(own.port)}
    os.environ.update(group, TORCHFT_LIGHTHOUSE=address)
    return own


def main(words: list[str], before: list[str]) -> None:
    """The script with its arguments; `before` is Python that rank 0 runs first, for data."""
    listen()
    count()
    script, rank = words[0], os.environ.get("REPLICA_GROUP_ID", os.environ.get("RANK", "0"))
    done = Path(os.environ["TINY_RESULT"] + "-ready")
    kept = []
    if rank == "0":
        for path in before:
            runpy.run_path(path) if path.endswith(".py") else exec(path)
        if TORCHFT:
            kept.append(lighthouse())
        done.with_suffix(".tmp").write_text(kept[0].address() if kept else "")
        done.with_suffix(".tmp").replace(done)
    while not done.exists():
        time.sleep(0.02)
    if TORCHFT:
        kept.append(store(done.read_text()))
    sys.argv = words
    sys.path.insert(0, str(Path(script).resolve().parent))
    start = time.monotonic()
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    text = json.dumps(result(time.monotonic() - start))
    Path(os.environ["TINY_RESULT"] + "." + rank).write_text(text)
