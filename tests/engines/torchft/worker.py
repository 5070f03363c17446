"""A real replica group of the tests, of one process: a torchft script with votes in it, which may be made to fail."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`
from torchft.manager import Manager
from torchft.process_group import ProcessGroupGloo

from gradvote import algorithms
from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.slot import Slot
from gradvote.engines.distributed.failures import LinkBroken
from gradvote.engines.torchft.all_to_all import AllToAll
from gradvote.engines.torchft.quorum_round import QuorumRound
from gradvote.engines.torchft.vote import TorchftVote, attach
from tests.engines.elastic.worker import batch, digest, new_model

ROUNDS = ("greetings", "ballots", "verdicts")


def work(folder: str, lighthouses: dict[str, str], worker: int, steps: int, o: dict[str, Any]) -> None:
    """Train to the end with one algorithm after another; the lines, or the error, stand in a file of this process."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    out = Path(folder) / f"{worker}.{o['life']}"
    code = 0
    try:
        for algorithm, address in lighthouses.items():
            _train(out, algorithm, address, worker, steps, o)
    except Exception as error:
        _write(out, {"error": f"{type(error).__name__}: {error}"})
        code = 1
    os._exit(code)  # torchft's threads do not end by themselves


def _train(out: Path, algorithm: str, address: str, worker: int, steps: int, o: dict[str, Any]) -> None:
    model = new_model(o.get("model_seed", 0))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    limit = timedelta(seconds=o.get("limit", 10.0))
    manager = Manager(
        pg=ProcessGroupGloo(timeout=limit), load_state_dict=None, state_dict=None, min_replica_size=o["min_workers"],
        use_async_quorum=o.get("async_quorum", True), init_sync=o.get("init_sync", False), timeout=limit,
        rank=0, world_size=1, store_addr="127.0.0.1", store_port=store.port, lighthouse_addr=address,
        replica_id=f"worker{worker}_", hostname="127.0.0.1",
    )  # fmt: skip
    vote = attach(manager, model, optimizer, algorithms.create(algorithm), worker=worker, seed=o.get("seed", 0))
    kept = out.with_name(f"checkpoint.{worker}")
    if o.get("resume"):
        saved = torch.load(kept, weights_only=True)
        for part, name in ((model, "model"), (optimizer, "optimizer"), (manager, "manager"), (vote, "vote")):
            if name not in o.get("leave_out", ()):
                part.load_state_dict(saved[name])
    _afflict(vote, o)
    out.with_name(f"ready.{worker}").touch()
    while len(list(out.parent.glob("ready.*"))) < o["workers"]:
        time.sleep(0.005)  # the lighthouse would begin with those that came first
    while manager.current_step() < o.get("until", steps):
        _step(out, algorithm, manager, model, optimizer, vote, o)
    states = {"model": model, "optimizer": optimizer, "manager": manager, "vote": vote}
    torch.save({name: part.state_dict() for name, part in states.items()}, kept)
    stats = vote.stats()
    _write(out, {"stats": {str(number): vars(own) for number, own in stats.workers.items()}, "healed": stats.healed,
                 "refused": stats.refused, "sent": stats.bytes_sent, "received": stats.bytes_received,
                 "notes": [text for _, text in stats.notes]})  # fmt: skip
    time.sleep(0.2)  # who follows may still want something of this process
    manager.shutdown(wait=False)


def _step(
    out: Path,
    algorithm: str,
    manager: Manager,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    vote: TorchftVote,
    o: Any,
) -> None:
    before, healed = states(vote), vote.stats().healed
    step = manager.current_step()
    optimizer.zero_grad()
    manager.start_quorum()
    time.sleep(o.get("pace", 0.01))
    nn.functional.cross_entropy(model(batch(vote.worker, step)[0]), batch(vote.worker, step)[1]).backward()
    if o.get("nan"):
        for p in model.parameters():
            p.grad = torch.full_like(p, torch.nan)
    if o.get("reports") == step:
        manager.report_error(RuntimeError("something else went wrong"))
        o["reports"] = None
    if vote.step():
        _write(out, {"step": manager.current_step(), "digest": digest(model), "at": time.monotonic(),
                     "algorithm": algorithm})  # fmt: skip
    else:
        _write(out, {"at_step": step, "unchanged": states(vote) == before, "healing": vote.stats().healed > healed})


def states(vote: TorchftVote) -> str:
    """The digest of everything that a refused step must leave alone."""
    hasher = hashlib.blake2b(vote._replica.digest().encode())
    for tensor in _tensors(vote._replica.state_dict()["worker"]):
        hasher.update(tensor.numpy().tobytes())
    return hasher.hexdigest()


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for own in (value.values() if isinstance(value, dict) else value) for t in _tensors(own)]


def _afflict(vote: TorchftVote, o: dict[str, Any]) -> None:
    """`die` or `deaf` at a step, in one of its swaps; `two_faced` or `garbled` ballots, or none at all (`fails`)."""
    all_to_all, afterwards, run = vote._all_to_all, o.get("deaf"), QuorumRound.run
    count = [0]

    def counted(vote_round: QuorumRound) -> Any:
        count[0] = -1
        return run(vote_round)

    def swap(message: bytes, expected: Sequence[int]) -> list[bytes]:
        count[0] += 1
        here = [vote._manager.current_step(), ROUNDS[count[0]]]
        if o.get("die") == here:
            os.kill(os.getpid(), signal.SIGKILL)
        if here[1] == "ballots" and message:
            message = message[:-1] + bytes([message[-1] ^ 1]) if o.get("garbled") == here[0] else message
            if o.get("two_faced") == here[0]:
                return _two_faced(all_to_all, vote, message, expected)
        found = AllToAll.swap(all_to_all, message, expected)
        if afterwards == here:
            raise LinkBroken("this replica did not hear the others")
        return found

    def fail(slot: Slot) -> Ballot:
        if slot.step == o.get("fails"):
            raise MemoryError("no room")
        return ballot_of(slot)

    ballot_of, vote._replica.vote = vote._replica.vote, fail  # type: ignore[method-assign]
    QuorumRound.run = counted  # type: ignore[method-assign]
    all_to_all.swap = swap  # type: ignore[method-assign]


def _two_faced(all_to_all: AllToAll, vote: TorchftVote, message: bytes, expected: Sequence[int]) -> list[bytes]:
    """The last replica gets another ballot, as well made as the first."""
    from gradvote import wire

    header = wire.Header(*_fields(message))
    body = wire.unframe(message, header).clone()
    body[10:20] ^= 255  # behind the learning rate
    other = wire.frame(body, header)
    send = torch.frombuffer(bytearray(message * (len(expected) - 1) + other), dtype=torch.uint8)
    receive = torch.empty(sum(expected), dtype=torch.uint8)
    sizes = [len(message)] * len(expected)
    options = torch.distributed.distributed_c10d.AllToAllOptions()
    all_to_all._group.alltoall_base(receive, send, list(expected), sizes, options).wait()
    return [part.numpy().tobytes() for part in receive.split(list(expected))]


def _fields(message: bytes) -> tuple[Any, ...]:
    from gradvote.wire import FIXED, Kind

    _, kind, sender, attempt, step, recipe, _ = FIXED.unpack_from(message)
    return Kind(kind), sender, step, attempt, recipe


def _write(out: Path, line: dict[str, Any]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")
