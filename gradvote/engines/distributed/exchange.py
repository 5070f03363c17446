"""The exchange for training loops of one's own: `exchange.step()` between `backward()` and `optimizer.step()`."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.distributed import pipeline
from gradvote.engines.distributed.chunking import Chunking
from gradvote.engines.distributed.failures import Watch, private_group
from gradvote.engines.distributed.gradients import Desk, Outbox, flat_dtype
from gradvote.engines.distributed.placement import Placement
from gradvote.engines.distributed.rates import Rates
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.stats import Stats
from gradvote.engines.distributed.transport import Transport
from gradvote.faults import Faulty
from gradvote.layout import Layout

Named = Iterable[Tensor] | Iterable[tuple[str, Tensor]]


class Exchange:
    """Replaces the gradients of `params` by the direction that all ranks agree on, at one bit per coordinate or so.

        exchange = gradvote.distributed.Exchange(model.parameters(), gradvote.algorithms.signum(), optimizer=opt)
        loss.backward()
        exchange.step()
        opt.step()

    All ranks of `group` build it with the same parameters (or named parameters), algorithm, `placement` and `seed`,
    and call `step` equally often. A parameter without a gradient abstains. `optimizer` gives the learning rates by
    which error memories are rescaled. `secret` keys this rank's private draws; None derives them from the seed, which
    makes runs reproducible and noise no protection. `chunks` is the number of parts in which the gradient travels, so
    that work and transfer overlap (None: what is faster in the first steps). `timeout` (seconds) is how long a rank
    waits for the others; a `group` of only some of the ranks is used as it is, with its own timeout.

    Raises:
        ValueError: nothing to train, or the ranks differ in what they were given.
    """

    def __init__(
        self,
        params: Named,
        algorithm: Algorithm,
        *,
        placement: Placement = "sharded",
        optimizer: Optimizer | None = None,
        group: dist.ProcessGroup | None = None,
        seed: int = 0,
        secret: bytes | None = None,
        chunks: int | None = None,
        timeout: float = 300.0,
        faults: Sequence[Faulty] = (),
    ) -> None:
        names, self.params = named(params)
        check_separable(algorithm)
        self._rates = Rates(self.params, names, optimizer)
        own_group = private_group(group, timeout) or group
        assert own_group is not None
        self._watch = Watch(own_group)
        self._session = Session(names, self.params, algorithm, placement, Transport(own_group), seed, secret, faults)
        self._chunking = Chunking(self._session.protocol.layout, self._session.transport, chunks)
        self._desk = Desk(flat_dtype(self.params))

    def step(self) -> None:
        """One round. Where it fails, no memory has changed.

        Gradients stay as they were, too, unless a rank is lost while decisions travel: then some may hold directions.

        Raises:
            ExchangeError: another rank failed or did not answer in time; the text names it.
        """
        try:
            started = time.perf_counter()
            self._step(self._chunking.layouts())
            self._chunking.took(time.perf_counter() - started)
        except Exception as error:
            raise self._watch.failed(error, self._session.step) from error

    def stats(self) -> Stats:
        """What this rank has counted."""
        return self._session.stats()

    def all_stats(self) -> list[Stats]:
        """What each rank has counted; all ranks must ask."""
        return self._session.all_stats()

    def state_dict(self) -> dict[str, Any]:
        """This rank's memories and momenta by parameter, its share of the server's, and the step."""
        return self._session.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue, bit for bit, where this rank's `state_dict` was taken.

        Raises:
            ValueError: it was saved for something else; nothing has been changed.
        """
        self._session.load_state_dict(state)

    def _step(self, layouts: list[Layout]) -> None:
        gradients, lr = {i: p.grad for i, p in enumerate(self.params)}, self._rates()
        keys = [(k, len(layouts)) for k in range(len(layouts))]
        turns = [self._session.turn(key, layout, lr) for key, layout in zip(keys, layouts, strict=True)]
        updates = (self._desk.gather(layout, gradients) for layout in layouts)
        targets = {i: torch.empty_like(self.params[i]) if g is None else g for i, g in gradients.items()}
        outbox = Outbox(self._desk, targets)
        deliveries = pipeline.run(
            self._session.transport,
            turns,
            updates,
            lambda k: outbox.write(layouts[k], turns[k].read),
        )
        outbox.finish()
        for i, target in targets.items():
            self.params[i].grad = target
        self._session.commit(dict(zip(keys, turns, strict=True)), deliveries)


def named(params: Named) -> tuple[list[str], list[Tensor]]:
    """Names and tensors of the trainable ones, each once: tied weights are one parameter.

    Raises:
        ValueError: a tensor is sparse or complex.
    """
    pairs = [p if isinstance(p, tuple) else (str(i), p) for i, p in enumerate(params)]
    unique: dict[int, tuple[str, Tensor]] = {}
    for name, p in pairs:
        if p.requires_grad:
            unique.setdefault(id(p), (name, p))
    chosen = list(unique.values())
    for name, p in chosen:
        if p.layout != torch.strided or not p.is_floating_point():
            raise ValueError(
                f"The parameter {name!r} is {p.layout}, {p.dtype}; only dense real parameters are exchanged."
            )
    return [name for name, _ in chosen], [p for _, p in chosen]


def check_separable(algorithm: Algorithm) -> None:
    """Raise ValueError for a rule that needs the whole vector at once."""
    if not algorithm.aggregate.separable:
        raise ValueError(
            f"{algorithm.aggregate} needs every worker's whole gradient at once, but real workers send it in parts. "
            "Use it in the simulation, or use a coordinate-wise rule (a vote, a median, a trimmed mean) here."
        )
