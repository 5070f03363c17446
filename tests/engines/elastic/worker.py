"""A real worker process of the tests: it trains, writes a line after every step, and may lie."""

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradvote import algorithms
from gradvote.elastic import Timeouts, Vote, attach
from gradvote.engines.elastic.frames import Frame, Kind, digest_of
from gradvote.engines.elastic.records import Slot
from gradvote.engines.elastic.replica import Replica

WIDTH, CLASSES = 20, 5


def new_model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def batch(worker: int, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + worker)
    y = torch.randint(0, CLASSES, (8,), generator=generator)
    return torch.randn(8, WIDTH, generator=generator) + y[:, None], y


def digest(model: nn.Module) -> str:
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    return hashlib.blake2b(flat.numpy().tobytes(), digest_size=8).hexdigest()


def warm_up() -> None:
    """Load what all workers need, before they are forked."""
    torch.set_num_threads(1)
    for name in ("dist-ef-sgdm", "dropsignsgd", "signum"):
        model = new_model()
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        Replica(model, optimizer, algorithms.create(name), 0, 0, None).rehearse(range(1, 6))
        nn.functional.cross_entropy(model(batch(0, 0)[0]), batch(0, 0)[1]).backward()
        optimizer.step()


def work(folder: str, port: int, worker: int, steps: int, options: dict[str, Any]) -> None:
    """Train to the end; the lines, or the error, stand in a file of this process."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    out = Path(folder) / f"{worker}.{options['life']}"
    try:
        _train(out, f"127.0.0.1:{port}", worker, steps, options)
    except Exception as error:
        _write(out, {"error": f"{type(error).__name__}: {error}"})
        raise SystemExit(1) from error


def _train(out: Path, store: str, worker: int, steps: int, o: dict[str, Any]) -> None:
    model = new_model(o.get("model_seed", 0))
    optimizer = torch.optim.AdamW(model.parameters(), o.get("lr", 0.01))
    algorithm = algorithms.create(o.get("algorithm", "dist-ef-sgdm"))
    times = Timeouts(o.get("deadline", 2.0), o.get("grace", 0.2), o.get("gather", 5.0), o.get("timeout", 20.0))
    vote = attach(
        model, optimizer, algorithm, min_workers=o["min_workers"], worker=worker, workers=o["workers"], store=store,
        timeouts=times, seed=o.get("seed", 0),
    )  # fmt: skip
    kept = out.with_name(f"checkpoint.{worker}")
    if o.get("checkpoints") and kept.exists():
        saved = torch.load(kept, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        vote.load_state_dict(saved["vote"])
    with vote:
        _write(out, {"joined": vote.step_number})
        if "lie" in o:
            _lie(vote, o["lie"], o.get("lies", range(10**9)))
        for step in vote.steps(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch(worker, step)[0]), batch(worker, step)[1]).backward()
            if o.get("nan"):
                for p in model.parameters():
                    p.grad = torch.full_like(p, torch.nan)
            time.sleep(o.get("pace", 0.01))
            vote.step()
            _write(out, {"step": vote.step_number, "digest": digest(model), "at": time.monotonic()})
            if o.get("checkpoints") and vote.step_number % 5 == 0:
                _save(
                    kept, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "vote": vote.state_dict()}
                )
        stats = vote.stats()
    workers = {str(number): vars(standing) for number, standing in stats.workers.items()}
    _write(out, {"stats": workers, "steps": stats.steps, "retried": stats.retried, "slow": stats.slow,
                 "notes": [text for _, text in stats.notes]})  # fmt: skip


def _write(out: Path, line: dict[str, Any]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _save(path: Path, state: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)


def _lie(vote: Vote, how: str, steps: Iterable[int]) -> None:
    """Send ballots as no honest worker does, in some steps."""
    honest, chosen, earlier, once = vote._group.send, set(steps), list[Frame](), set[tuple[Slot, int]]()

    def lying(to: Iterable[int], frame: Frame) -> None:
        receivers = list(to)
        if frame.kind != Kind.BALLOT or frame.slot.step not in chosen:
            return honest(receivers, frame)
        if how in ("garbage", "huge"):  # the connection breaks; on the next one the worker is honest again
            again = [ticket for ticket in receivers if (frame.slot, ticket) in once]
            honest(again, frame)
            receivers = [ticket for ticket in receivers if ticket not in again]
            once.update((frame.slot, ticket) for ticket in receivers)
        if how == "garbage":
            for ticket in receivers:
                if (link := vote._group.mesh.links.get(ticket)) is not None:
                    link.sock.sendall(b"\x00" * 64)
            return None
        if how == "replay" and earlier:
            honest(receivers, earlier[-1])
        earlier.append(frame)
        if how == "two-faced":
            honest(receivers[:1], frame)
            return honest(receivers[1:], _altered(frame, sound=True))
        return honest(receivers, LIES[how](frame))

    vote._group.send = lying  # type: ignore[method-assign]


def _altered(frame: Frame, sound: bool) -> Frame:
    body = bytearray(frame.body)
    body[-9] ^= 0x10
    return replace(frame, body=bytes(body), digest=digest_of(body) if sound else frame.digest)


LIES: dict[str, Callable[[Frame], Frame]] = {
    "altered": lambda f: _altered(f, sound=False),
    "short": lambda f: replace(f, body=f.body[:-1], digest=b""),
    "long": lambda f: replace(f, body=bytes(f.body) + b"\x00" * 100, digest=b""),
    "huge": lambda f: replace(f, body=bytes(1 << 22), digest=b""),
    "future": lambda f: replace(f, slot=Slot(f.slot.step + 1000)),
    "replay": lambda f: f,
}
