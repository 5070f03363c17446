"""An algorithm of the library on a problem whose gradients are a formula.

R replicas of a problem in p dimensions are R blocks of one exchange, each with its own scale, masks and noise: one call
steps them all, and their spread gives the intervals. Payloads go from hand to hand without becoming bytes, which by the
laws of the design changes no bit. Shapes: x is (R, p) in float64, gradients are (M, R, p).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote.core import Algorithm
from gradvote.engines.common.protocol import Protocol, protocol_for
from gradvote.faults import Faulty, on_gradients

Gradients = Callable[[Tensor, int], Tensor]
"""From x (R, p) and the step to the workers' gradients (M, R, p)."""


class Exchange:
    """The verbs of a round for M workers at once: `step` takes gradients (M, R, p) and gives the direction (R, p)."""

    def __init__(
        self, algorithm: Algorithm, workers: int, replicas: int, p: int, seed: int, faults: Sequence[Faulty] = ()
    ) -> None:
        self.protocol: Protocol = protocol_for([torch.zeros(p)] * replicas, algorithm, seed)
        self.shape, self.senders = (replicas, p), torch.arange(workers)[:, None]
        self.faults, self.num_workers = faults, workers
        self.workers = self.protocol.init_worker(torch.zeros(workers, replicas * p))
        self.server = self.protocol.init_server(torch.zeros(replicas * p))

    def step(self, gradients: Tensor, step: int, lr: float) -> Tensor:
        """One round."""
        ctxs = self.protocol.contexts(step, self.senders, lr)
        told = on_gradients(self.faults, gradients.float(), ctxs[0], self.num_workers)
        ballots, self.workers = self.protocol.encode(told.flatten(1), self.workers, ctxs)
        decision, self.server = self.protocol.combine(ballots, self.server, ctxs)
        direction, self.workers = self.protocol.decode(decision, self.workers, ctxs)
        return direction.double().view(self.shape)

    def unsent(self) -> Tensor:
        """What each worker keeps back, (M, R, p)."""
        parts = [self.protocol.algorithm.unsent(state) for state in self.workers]
        assert all(part is not None for part in parts), "an algorithm with a memory"
        return torch.cat([part.flatten(1) for part in parts if part is not None], 1).view(-1, *self.shape)


@dataclass(frozen=True)
class Descent:
    """`algorithm` on `gradients` from `start` (R, p) with the learning rate `lr`; `project` follows every step.

    `tell` is told of every step before it, `unsent` may look at the exchange after it.
    """

    algorithm: Algorithm
    gradients: Gradients
    start: Tensor
    lr: float
    seed: int = 0
    faults: Sequence[Faulty] = ()
    project: Callable[[Tensor], Tensor] = lambda x: x
    tell: Callable[[int, int, str], None] = lambda step, steps, note: None
    unsent: Callable[[Exchange], None] = lambda exchange: None

    def iterates(self, steps: int) -> Iterator[Tensor]:
        """x_0, x_1, …, x_steps, each (R, p)."""
        x = self.start.double()
        exchange: Exchange | None = None
        yield x
        for step in range(steps):
            self.tell(step, steps, "")
            gradients = self.gradients(x, step)
            exchange = exchange or Exchange(
                self.algorithm, len(gradients), x.shape[0], x.shape[1], self.seed, self.faults
            )
            x = self.project(x - self.lr * exchange.step(gradients, step, self.lr))
            self.unsent(exchange)
            yield x


def astray(gradients: Gradients, seed: int = 23) -> Gradients:
    """The same sizes in random directions: each coordinate's sign is drawn at each step, for all workers alike.

    What the null method steps along that goes as far as the tested one, and knows nothing.
    """
    generator = torch.Generator().manual_seed(seed)

    def wandering(x: Tensor, step: int) -> Tensor:
        told = gradients(x, step)
        return told * (torch.randint(2, told.shape[1:], generator=generator) * 2 - 1).double()

    return wandering
