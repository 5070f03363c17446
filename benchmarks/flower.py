"""What a federated round costs on Flower: bytes both ways, the server's time and memory, client steps per second.

    python benchmarks/flower.py [--only bytes server steps] [--out FILE.json]

Strategy and mods are Flower's own objects in one process, and every message is serialized and read again. Each section
checks its results before it prints a number, and says what was asked of it and missed.
"""

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from federated.nodes import Counted, app_of
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedMedian
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor, nn

from gradvote import algorithms
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.flower.model import Model, Outer
from gradvote.engines.flower.server import FederatedServer
from gradvote.engines.gradients import vectorized_gradients
from gradvote.engines.simulation import Simulation
from gradvote.flower import GradVote
from gradvote.wire import Kind

ALGORITHM = algorithms.signsgd()
CLIENTS, SIZE, TURNS = 100, 1_000_000, 3


def model_of(size: int) -> nn.Module:
    """64-128-10 has 9,610 parameters; with two layers of 1,024 between them 1.2 million."""
    inside = [nn.Linear(64, 128), nn.Linear(128, 10)]
    if size > 10_000:
        inside = [nn.Linear(64, 1024), nn.Linear(1024, 1024), nn.Linear(1024, 80), nn.Linear(80, 10)]
    return nn.Sequential(*inside)


def bytes_of_a_round() -> list[dict[str, object]]:
    """Records of a round after the first, per client."""
    rows = []
    for size in (9_610, 1_200_000):
        model = model_of(size)
        d = sum(p.numel() for p in model.parameters())
        grid = Counted(app_of(ALGORITHM, {"reproducible": True}), 3)
        strategy = GradVote(ALGORITHM, fraction_evaluate=0.0, min_available_nodes=3)
        result = strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=3)
        assert not result.undecided and not any(result.abstentions.values())
        row: dict[str, object] = {"d": d}
        for way, sizes in (("up", grid.up), ("down", grid.down)):
            row |= {f"{way} bytes": max(sizes), f"{way} bits per coordinate": round(8 * max(sizes) / d, 4)}
            row[f"{way} overhead"] = max(sizes) - -(-d // 8)
        rows.append(row)
    small, large = rows
    assert small["d"] == 9_610
    for way in ("up", "down"):
        reached(
            f"{way}: at most 1.05 bits per coordinate at d = {large['d']:,}", large[f"{way} bits per coordinate"], 1.05
        )
        reached(f"{way}: at most 430 bytes more than d/8 at d = 9,610", small[f"{way} overhead"], 430)
    return rows


def server_of_a_round() -> dict[str, object]:
    """Both servers on 100 clients × 1M, each in processes of its own, in turns; seconds of the processor, one thread.

    The ratios are medians of those of the turns.
    """
    turns = [{which: _in_its_process(which) for which in ("vote", "median")} for _ in range(TURNS)]
    times = ("cold", "warm", "warm vote", "warm with step", "first step")
    ratio = {t: statistics.median(_median(x, t) / x["vote"][t] for x in turns) for t in times}
    reached("cold: FedMedian's time over reading and vote, at least 5", -ratio["cold"], -5.0)
    reached("warm: FedMedian's time over reading and vote, at least 100", -ratio["warm"], -100.0)
    first = statistics.median(x["vote"]["first step"] for x in turns)
    print(f"        the vote alone {ratio['warm vote']:.4g}, with the model's step, which FedMedian has not,")
    print(f"        {ratio['warm with step']:.4g}; the first step {first:.3g} s")
    memory = _in_its_process("memory")
    reached("memory: peak over the payloads, at most 2", memory["peak"] / memory["payloads"], 2.0)
    return {"turns": turns, "ratios": ratio, "memory": memory}


def _median(turn: dict[str, dict[str, float]], which: str) -> float:
    """FedMedian's seconds beside those of the vote."""
    return turn["median"]["cold" if which in ("cold", "first step") else "warm"]


def _in_its_process(which: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--server", which]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # ourselves
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ballots(server: FederatedServer) -> tuple[Tensor, list[bytes]]:
    """A direction, for which two thirds of the clients are."""
    protocol, size = server.protocol, server.protocol.layout.size
    given = torch.randn(size, generator=torch.Generator().manual_seed(0))
    messages = []
    for worker in range(CLIENTS):
        ctxs = protocol.contexts(0, worker, 0.01)
        own = given if worker % 3 else -given
        payloads, _ = protocol.encode(own, protocol.init_worker(own), ctxs)
        messages.append(protocol.send(Kind.BALLOT, payloads, protocol.planes(Kind.BALLOT, ctxs), ctxs[0]))
    return given, messages


def server_with(size: int) -> FederatedServer:
    return FederatedServer(ALGORITHM, 0, Outer(0.01), Model({"w": np.zeros((1000, size // 1000), np.float32)}))


def vote_server() -> dict[str, float]:
    """Read, count, decide, and take the step; the first time, and the best of five."""
    server = server_with(SIZE)
    given, messages = ballots(server)
    step, marks = server._step, []

    def timed(*arguments: Any) -> None:
        marks[-1].append(time.process_time())
        step(*arguments)

    for _ in range(6):
        server.version = 0
        marks.append([time.process_time()])
        opened = {n: server.open(n, raw, 0.01) for n, raw in enumerate(messages)}
        marks[-1].append(time.process_time())
        with mock.patch.object(server, "_step", timed):  # to know when the decision is there
            server.decide(opened, 0.01, None)
        marks[-1].append(time.process_time())
        if len(marks) == 1:
            assert torch.equal(server.model.params[0].detach().flatten(), -0.01 * given.sign()), "the majority decides"
    first, *others = marks
    return {
        "cold": first[2] - first[0],
        "first step": first[3] - first[2],
        "warm": min(m[2] - m[0] for m in others),
        "warm vote": min(m[2] - m[1] for m in others),
        "warm with step": min(m[3] - m[0] for m in others),
    }


def vote_memory() -> dict[str, float]:
    """What a round needs at most beside what stands there before, when all code is loaded."""
    small, server = server_with(2000), server_with(SIZE)
    small.decide({n: small.open(n, raw, 0.01) for n, raw in enumerate(ballots(small)[1])}, 0.01, None)
    _, messages = ballots(server)
    before = peak()
    server.decide({n: server.open(n, raw, 0.01) for n, raw in enumerate(messages)}, 0.01, None)
    return {"payloads": sum(map(len, messages)), "peak": peak() - before}


def median_server() -> dict[str, float]:
    """FedMedian's own `aggregate_train`; replies are made anew, as it takes them apart."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    made = torch.Generator().manual_seed(0)
    arrays = [torch.randn(SIZE, generator=made).numpy() for _ in range(CLIENTS)]

    def replies() -> list[Message]:
        each = ({"arrays": ArrayRecord([own]), "metrics": MetricRecord({"num-examples": 1})} for own in arrays)
        return [Message(RecordDict(own), 1, "train") for own in each]

    strategy, times, before = FedMedian(), [], peak()
    for _ in range(3):
        given = replies()
        begun = time.process_time()
        found, _ = strategy.aggregate_train(1, given)
        times.append(time.process_time() - begun)
    assert found is not None and np.array_equal(found.to_numpy_ndarrays()[0], np.median(np.stack(arrays), axis=0))
    return {"cold": times[0], "warm": min(times[1:]), "payloads": 4 * CLIENTS * SIZE, "peak": peak() - before}


def peak() -> float:
    """Bytes of memory at most, so far."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def steps_per_second() -> dict[str, float]:
    """Client steps of 100 clients for each second of the processor, one thread, which other work changes little.

    Flower's are those of its strategy and mods in one process, without sockets, Ray or training; both in turns, and
    medians of them.
    """
    torch.set_num_threads(1)  # threads that wait for another on a busy machine count as work
    logging.getLogger("flwr").setLevel(logging.WARNING)
    model = model_of(9_610)
    turns = [own for _ in range(TURNS) for own in zip(_steps_of_flower(model), _steps_simulated(model), strict=True)]
    flower, simulated = (statistics.median(own) for own in zip(*turns, strict=True))
    asked = "client steps per second of the simulation, with training, over Flower's without, at least 50"
    reached(asked, -statistics.median(ours / theirs for theirs, ours in turns), -50)
    return {"Flower in one process, without training": flower, "simulation, with training": simulated}


def _steps_of_flower(model: nn.Module) -> Iterator[float]:
    """Client steps per second, of two rounds after the first."""
    grid = Counted(app_of(ALGORITHM, {"reproducible": True}), CLIENTS)
    strategy = GradVote(ALGORITHM, fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    arrays = ArrayRecord(model.state_dict())
    for number in range(1, 4):
        begun = time.process_time()
        strategy.start(grid, arrays, num_rounds=number)
        if number > 1:
            yield CLIENTS / (time.process_time() - begun)


def _steps_simulated(model: nn.Module) -> Iterator[float]:
    """The same of twenty rounds at a time."""
    simulation = Simulation(protocol_for(list(model.parameters()), ALGORITHM, 0), CLIENTS)
    batches = [(torch.randn(32, 64), torch.randint(10, (32,))) for _ in range(CLIENTS)]
    layout = simulation.protocol.layout
    for number in range(41):
        if number % 20 == 1:
            begun = time.process_time()
        _, gradients = vectorized_gradients([model], batches, layout, 0, number)
        assert bool(simulation.step(gradients, number, 0.01).isfinite().all())
        if number and number % 20 == 0:
            yield 20 * CLIENTS / (time.process_time() - begun)


def reached(what: str, value: Any, limit: float) -> None:
    """Say whether what was asked for was reached; a number below zero is one that should be large."""
    print(f"{'reached' if value <= limit else 'MISSED '} {what}: {abs(value):.4g}", flush=True)


SECTIONS: dict[str, Callable[[], object]] = {
    "bytes": bytes_of_a_round,
    "server": server_of_a_round,
    "steps": steps_per_second,
}


SERVERS = {"vote": vote_server, "memory": vote_memory, "median": median_server}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS], default=[*SECTIONS])
    parser.add_argument("--server", choices=[*SERVERS], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.server is not None:
        torch.set_num_threads(1)  # FedMedian has one; and threads that wait for another on a busy machine count as work
        print(json.dumps(SERVERS[given.server]()))
        return
    found = {name: SECTIONS[name]() for name in given.only}
    print(json.dumps(found, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
