"""A real worker process of the tests: it trains, writes a line after every step, and may lie."""

import contextlib
import hashlib
import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from gradvote import algorithms, faults
from gradvote.elastic import ElasticVote, Timeouts, attach
from gradvote.engines.common.parameter_check import EVERY
from gradvote.engines.common.replica import Replica
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.faults import Faulty
from gradvote.lab.train import checkpoint
from tests.engines.elastic import local_worker
from tests.engines.elastic.ledger import Findings, Ledger
from tests.engines.elastic.liars import lie
from tests.engines.elastic.namespaces import enter

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
        if "namespace" in options:
            enter(options["namespace"])
        address = options.get("store", f"{options.get('store_host', '127.0.0.1')}:{port}")
        _train(out, address, worker, steps, options)
    except Exception as error:
        _write(out, {"error": f"{type(error).__name__}: {error}"})
        raise SystemExit(1) from error


def _train(out: Path, store: str, worker: int, steps: int, o: dict[str, Any]) -> None:
    model = new_model(o.get("model_seed", 0))
    if "every" in o:
        local_worker.train(partial(_write, out), batch, digest, model, store, worker, steps, o)
        return
    optimizer = torch.optim.AdamW(model.parameters(), o.get("lr", 0.01))
    algorithm = algorithms.create(o.get("algorithm", "dist-ef-sgdm"))
    times = Timeouts(o.get("deadline", 2.0), o.get("grace", 0.2), o.get("gather", 5.0), o.get("timeout", 20.0))
    vote = attach(
        model, optimizer, algorithm, min_workers=o["min_workers"], worker=worker, workers=o["workers"], store=store,
        timeouts=times, seed=o.get("seed", 0), host=o.get("host"), faults=_faults(*o.get("faults", ())),
        keys=o.get("keys"), insecure=o.get("insecure", False), placement=o.get("placement", "replicated"),
        check_parameters_every=o.get("check_every", EVERY),
    )  # fmt: skip
    orders = Orders(out.with_name(f"orders.{worker}"), o)
    kept = Path(o.get("checkpoint_folder", out.parent)) / f"checkpoint.{worker}"
    if "relay" in o:
        _dial_by(vote, o["relay"], out.with_name(f"port.{worker}"))
    if o.get("checkpoints") and kept.exists():
        saved = checkpoint.load(kept)
        model.load_state_dict(saved["models"][0])
        optimizer.load_state_dict(saved["optimizers"][0])
        vote.load_state_dict(saved["engine"])
    clock = Clock()
    with vote:
        _write(out, {"joined": vote.step_number})
        lie(vote, lambda step: orders.lies.get(step, orders.lie))
        if o.get("books"):
            Ledger(vote, lambda line: _write(out, line))
            Findings(vote, lambda line: _write(out, line))
            _tell_of_restoring(vote, lambda: _write(out, {"healed": vote.step_number}))
        for step in vote.steps(steps):
            orders.read()
            clock.jump(o.get("clock", 0.0))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch(worker, step)[0]), batch(worker, step)[1]).backward()
            if orders.num_nan:
                orders.num_nan -= 1
                for p in model.parameters():
                    p.grad = torch.full_like(p, torch.nan)
            time.sleep(o.get("pace", 0.01))
            if turned := orders.flip or o.get("flips", {}).get(step):
                _write(out, {"flipped": step})
                flip(turned, vote, model, optimizer)
            orders.flip = None
            vote.step()
            line = {"step": vote.step_number, "digest": digest(model), "at": time.monotonic()}
            looks = o.get("held_out") or (o.get("books") and step % 20 == 0)
            _write(out, line | ({"loss": held_out(model)} if looks else {}))
            if o.get("checkpoints") and vote.step_number % 5 == 0:
                _save(kept, vote, model, optimizer, orders)
        stats = vote.stats()
    workers = {str(number): vars(standing) for number, standing in stats.workers.items()}
    _write(out, {"clock": clock.num_read, "sent": stats.bytes_sent})
    _write(out, {"stats": workers, "steps": stats.steps, "retried": stats.retried, "slow": stats.slow,
                 "notes": [text for _, text in stats.notes]})  # fmt: skip


def flip(what: str, vote: ElasticVote, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A bit turns in this process: that of a number's exponent which doubles it, or halves it."""
    replica, first = vote._server.replica, next(iter(model.parameters()))
    held: dict[str, Any] = {
        "weight": first, "momentum": optimizer.state[first].get("exp_avg"), "own memory": replica.worker,
        "server's memory": replica.server,
    }  # fmt: skip
    numbers = next(memory for memory in tensors_of(held[what]) if memory.numel() > 16).view(-1)
    numbers[int(numbers.abs().argmax())].view(torch.int32).bitwise_xor_(1 << 23)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors in a state."""
    if isinstance(value, Tensor):
        yield value.detach()
    else:
        for own in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(own)


class Orders:
    """What a worker has been told to do: at its start, or in its file, which it looks for before every step."""

    def __init__(self, path: Path, o: dict[str, Any]) -> None:
        self._path = path
        self.lie: str | None = o["lie"] if "lie" in o and "lies" not in o else None
        self.lies: dict[int, str] = dict.fromkeys(o.get("lies", []), o.get("lie", ""))
        self.num_nan = 10**9 if o.get("nan") else 0
        self.save_slowly = 0.0
        self.flip: str | None = None

    def read(self) -> None:
        """Take over the file, and remove it."""
        with contextlib.suppress(FileNotFoundError):
            order = json.loads(self._path.read_text())
            self._path.unlink()
            self.lies = {int(step): how for step, how in order.get("lies", {}).items()} or self.lies
            self.num_nan = order.get("nan", self.num_nan)
            self.flip = order.get("flip", self.flip)
            self.save_slowly = order.get("save slowly", self.save_slowly)


class Clock:
    """The wall clock of this process, which can be made to jump."""

    def __init__(self) -> None:
        self.num_read, self._off, self._real = 0, 0.0, time.time
        time.time = self._now

    def jump(self, hours: float) -> None:
        self._off += 3600 * hours
        if hours:
            assert abs(time.time() - self._real() - self._off) < 600

    def _now(self) -> float:
        self.num_read += 1
        return self._real() + self._off


def _faults(name: str = "", num: int = 0) -> tuple[Faulty, ...]:
    return (Faulty(faults.create(name), num=num),) if name else ()


def _dial_by(vote: ElasticVote, ports: dict[int, int], own: Path) -> None:
    """Reach the other workers by the ports of a relay, which finds this one's in a file."""
    register = vote._node.register
    place_of = register.place

    def place(ticket: int) -> Presence | None:
        place = place_of(ticket)
        return place if place is None or place.number not in ports else replace(place, port=ports[place.number])

    register.place = place  # type: ignore[method-assign]
    partial = own.with_name(f"{own.name}.partial")
    partial.write_text(str(vote._node.mesh.port))
    partial.replace(own)


def _tell_of_restoring(vote: ElasticVote, tell: Callable[[], None]) -> None:
    replica = vote._server.replica
    restore = replica.restore

    def restoring(raw: bytes | bytearray) -> None:
        restore(raw)
        tell()

    replica.restore = restoring  # type: ignore[method-assign]


def held_out(model: nn.Module) -> float:
    """The loss on samples that no worker trains on."""
    with torch.no_grad():
        batches = [batch(999, step) for step in range(8)]
        x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
        return float(nn.functional.cross_entropy(model(x), y))


def _write(out: Path, line: dict[str, Any]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _save(path: Path, vote: ElasticVote, model: nn.Module, optimizer: torch.optim.Optimizer, orders: Orders) -> None:
    state = {
        "step": vote.step_number, "config": "", "round": {}, "seconds": 0.0,
        "models": [model.state_dict()], "optimizers": [optimizer.state_dict()], "engine": vote.state_dict(),
    }  # fmt: skip
    if not orders.save_slowly:
        return checkpoint.save(state, path)
    whole, seconds, orders.save_slowly = torch.save, orders.save_slowly, 0.0

    def in_halves(state: object, file: BinaryIO) -> None:
        buffer = io.BytesIO()
        whole(state, buffer)
        raw = buffer.getvalue()
        file.write(raw[: len(raw) // 2])
        file.flush()
        time.sleep(seconds)
        file.write(raw[len(raw) // 2 :])

    torch.save = in_halves  # type: ignore[assignment]
    try:
        checkpoint.save(state, path)
    finally:
        torch.save = whole
    return None
