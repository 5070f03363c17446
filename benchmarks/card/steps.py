"""Training steps of ResNet-50 and of a GPT-2 of 124M, in bfloat16, with and without a worker's share of a round."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from card.models import GPT, resnet50
from gradvote import algorithms
from gradvote.core import Algorithm, Context, Payload
from gradvote.engines.common.all_groups import Payloads
from gradvote.engines.common.flat_buffer import FlatBuffer, Outbox
from gradvote.engines.common.payloads import moved
from gradvote.engines.common.protocol import protocol_for
from gradvote.scattered import Vector
from gradvote.staging import CPU

STEPS, WARM_UP = 20, 5
CARD = torch.device("cuda", 0)
ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "signsgd": algorithms.signsgd,
    "noisy-signsgd": lambda: algorithms.create("noisy-signsgd"),
    "dist-ef-sgdm": algorithms.dist_ef_sgdm,
    "dropsignsgd": algorithms.dropsignsgd,
    "dist-ef-adam": algorithms.dist_ef_adam,
}


@dataclass(frozen=True)
class Step:
    """Milliseconds of a step, and of encoding and decoding in it: of the card, and of the processor."""

    model: str
    algorithm: str
    plain: float
    voting: float
    card: float
    host: float


class Task:
    """A model, its optimizer, and a batch of random data."""

    def __init__(self, name: str, batch: int | None = None) -> None:
        torch.manual_seed(0)
        self.name = name
        self.model: nn.Module = resnet50() if name == "ResNet-50" else GPT()
        self.model = self.model.cuda()
        if name == "ResNet-50":
            self.model = self.model.to(memory_format=torch.channels_last)
            x = torch.randn(batch or 128, 3, 224, 224, device="cuda")
            self.x, self.y = x.to(memory_format=torch.channels_last), torch.randint(1000, (len(x),), device="cuda")
        else:
            self.x = torch.randint(50257, (batch or 8, 1024), device="cuda")
            self.y = self.x.roll(-1, 1)
        self.params = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.params, 1e-4)

    def backward(self, model: nn.Module | None = None) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            out: Tensor = (model or self.model)(self.x)
            loss = cross_entropy(out.flatten(0, -2), self.y.flatten())
        loss.backward()

    def step(self, between: Callable[[], None] = lambda: None, model: nn.Module | None = None) -> None:
        self.optimizer.zero_grad()
        self.backward(model)
        between()
        self.optimizer.step()


class Worker:
    """What an engine does on a card: encodes the gradients of a task, and decodes a decision into them."""

    def __init__(self, task: Task, algorithm: Algorithm) -> None:
        self.task, self.protocol, self.step = task, protocol_for(task.params, algorithm, 0), 0
        self.buffer = FlatBuffer(torch.float32, CARD)
        like = torch.empty(self.protocol.layout.size, device=CARD)
        self.states = self.protocol.init_worker(like)
        self.decision = self._first_decision(like)

    def contexts(self) -> Sequence[Context]:
        return self.protocol.contexts(self.step, 0, 1e-4, device=CARD, at_once=True)

    def gradients(self) -> dict[int, Tensor]:
        return {i: p.grad for i, p in enumerate(self.task.params) if p.grad is not None}

    def encode(self) -> Sequence[Payload]:
        update = self.buffer.where_they_are(self.protocol.layout, self.gradients())
        ballots, self.states = self.protocol.encode(update, self.states, self.contexts())
        return ballots

    def decode(self) -> None:
        def decode(out: Vector | None) -> Tensor | None:
            direction, self.states = self.protocol.decode_to(self.decision, self.states, self.contexts(), out)
            return direction

        outbox = Outbox(self.buffer, self.gradients())
        outbox.write(self.protocol.layout, decode)
        outbox.finish()
        self.step += 1

    def __call__(self) -> None:
        self.encode()
        self.decode()

    def _first_decision(self, like: Tensor) -> Sequence[Payload]:
        """The decision on this worker's ballot alone, made on the host, as with gloo; after its bits were compared."""
        self.task.backward()
        near = self.protocol.layout.flatten([g.cpu() for g in self.gradients().values()], torch.empty(like.shape))
        ours, theirs = (self.protocol.contexts(0, who, 1e-4, at_once=True) for who in (0, torch.zeros(1, 1).long()))
        expected = self.protocol.encode(near, self.protocol.init_worker(near), ours)[0]
        ballots = moved(self.encode(), CPU)
        if not all(_same(a, b) for a, b in zip(ballots, expected, strict=True)):
            raise RuntimeError(f"{self.task.name}: the card's ballot is not the processor's, so its time says nothing.")
        if isinstance(ballots, Payloads):
            ballots = Payloads(ballots.rows, _of_one(ballots.whole), ballots.planes)
        else:
            ballots = [_of_one(own) for own in ballots]
        decision = self.protocol.combine(ballots, self.protocol.init_server(near), theirs)[0]
        self.decision = moved(decision, CARD)
        self.decode()
        direction = self.protocol.decode(decision, self.protocol.init_worker(near), ours)[0]
        written = self.protocol.layout.flatten([g.cpu() for g in self.gradients().values()], torch.empty(like.shape))
        if not torch.equal(written, direction):
            raise RuntimeError(f"{self.task.name}: the card's direction is not the processor's.")
        return self.decision


def _same(a: Payload, b: Payload) -> bool:
    """Whether two payloads are alike; of a block that abstains only that."""
    planes = (torch.equal(a[name][a.valid], b[name][b.valid]) for name in a.planes)
    return torch.equal(a.valid, b.valid) and all(planes)


def _of_one(payload: Payload) -> Payload:
    return Payload(payload.valid[None], {name: plane[None] for name, plane in payload.planes.items()})


def run(name: str) -> Iterator[Step]:
    """Each algorithm's step in turn with the plain one."""
    task = Task(name)
    for algorithm, make in ALGORITHMS.items():
        worker = Worker(task, make())
        plain, voting = in_turn(task.step, lambda worker=worker: task.step(worker))
        card, host = alone(worker)
        yield Step(name, algorithm, plain, voting, card, host)


def in_turn(*steps: Callable[[], None]) -> list[float]:
    """The median milliseconds of each, on the card's clock, from begin to end."""
    found: list[list[float]] = [[] for _ in steps]
    for k in range(WARM_UP + STEPS):
        for times, step in zip(found, steps, strict=True):
            before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            before.record()
            step()
            after.record()
            torch.cuda.synchronize()
            if k >= WARM_UP:
                times.append(before.elapsed_time(after))
    return [median(times) for times in found]


def alone(work: Callable[[], None]) -> tuple[float, float]:
    """Milliseconds of the card that never waits for the processor, and of the processor, for one call."""
    card, host = [], []
    for _ in range(STEPS):
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(60_000_000)
        before.record()
        start = time.perf_counter()
        work()
        host.append(1e3 * (time.perf_counter() - start))
        after.record()
        torch.cuda.synchronize()
        card.append(before.elapsed_time(after))
    return median(card), median(host)
