"""A round of one algorithm, worker by worker, with every payload sent as bytes and parsed again."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradvote.core import SERVER, Algorithm, Codec, Context, Payload, State
from gradvote.layout import Layout, layout_of
from gradvote.wire import Header, Kind, frame, pack, unframe, unpack

Tensors = list[Tensor]


class Rounds:
    """M workers and a server. `step` takes each worker's tensors and gives the direction, tensor by tensor."""

    def __init__(self, algorithm: Algorithm, numels: Sequence[int], num_workers: int, dtype: torch.dtype | None = None):
        self.algorithm, self.num_workers = algorithm, num_workers
        self.layout: Layout = layout_of(numels, algorithm.block_size)
        self.flat = torch.zeros(self.layout.size, dtype=dtype or torch.float32)
        views = self.layout.views(self.flat)
        self.workers: list[list[State]] = [[algorithm.up.init(v) for v in views] for _ in range(num_workers)]
        self.server: list[State] = [algorithm.down.init(v) for v in views]
        self.ballots: list[list[Payload]] = []

    def contexts(self, step: int, sender: int | Tensor, lr: float) -> list[Context]:
        return [Context(11, step, group.block, sender, lr, units=group.units) for group in self.layout.groups]

    def step(self, gradients: Sequence[Tensors], step: int, lr: float) -> Tensors:
        self.ballots = [self.send(i, self._flat(g), step, lr) for i, g in enumerate(gradients)]
        decision = self.decide(self.ballots, step, lr)
        directions = [self.receive(i, decision, step, lr) for i in range(self.num_workers)]
        return directions[0]

    def send(self, i: int, flat: Tensor, step: int, lr: float) -> list[Payload]:
        """What arrives of worker i's ballot."""
        payloads = []
        for k, (x, ctx) in enumerate(zip(self.layout.views(flat), self.contexts(step, i, lr), strict=True)):
            payload, self.workers[i][k] = self.algorithm.encode(x, self.workers[i][k], ctx)
            payloads.append(payload)
        return self._deliver(self.algorithm.up, payloads, Kind.BALLOT, self.contexts(step, i, lr))

    def decide(self, ballots: Sequence[list[Payload]], step: int, lr: float) -> list[Payload]:
        """What arrives of the server's decision."""
        decision = []
        ctxs = self.contexts(step, torch.arange(len(ballots))[:, None], lr)
        for k, (ctx, group) in enumerate(zip(ctxs, self.layout.groups, strict=True)):
            stacked = stack([b[k] for b in ballots])
            payload, self.server[k] = self.algorithm.combine(stacked, self.server[k], ctx, group.n)
            decision.append(payload)
        return self._deliver(self.algorithm.down, decision, Kind.DECISION, self.contexts(step, SERVER, lr))

    def receive(self, i: int, decision: list[Payload], step: int, lr: float) -> Tensors:
        """Worker i's direction."""
        parts = []
        for k, (ctx, group) in enumerate(zip(self.contexts(step, i, lr), self.layout.groups, strict=True)):
            x, self.workers[i][k] = self.algorithm.decode(decision[k], self.workers[i][k], ctx, group.n)
            parts.append(x.flatten())
        return self.tensors(torch.cat(parts))

    def tensors(self, flat: Tensor) -> Tensors:
        """The tensors of a flat vector."""
        out = [flat.new_empty(n) for n in self.layout.numels]
        self.layout.unflatten(flat, out)
        return out

    def unsent(self, part: Codec, states: list[State]) -> Tensors:
        """What one party has not sent, tensor by tensor."""
        held = [part.unsent(s) for s in states]
        return self.tensors(torch.cat([m.flatten() for m in held if m is not None]))

    def memories(self, states: list[State], *path: str) -> Tensors:
        """A memory (by its path in the state of a group) of one party, tensor by tensor."""
        for key in path:
            states = [s[key] for s in states]
        return self.tensors(torch.cat([m.flatten() for m in states]))  # type: ignore[arg-type]

    def _flat(self, tensors: Tensors) -> Tensor:
        return self.layout.flatten(tensors, out=torch.empty_like(self.flat))

    def _deliver(self, codec: Codec, payloads: list[Payload], kind: Kind, ctxs: list[Context]) -> list[Payload]:
        reports = self.algorithm.up.reports if kind == Kind.DECISION else ()
        planes = [(*codec.planes(g.n, c), *reports) for g, c in zip(self.layout.groups, ctxs, strict=True)]
        header = Header(kind, int(ctxs[0].sender), ctxs[0].step, 0, 1)
        body = unframe(frame(pack(payloads, planes), header), header)
        arrived = unpack(body, planes, [len(g.blocks) for g in self.layout.groups])
        return [codec.check(p, g.n) for p, g in zip(arrived, self.layout.groups, strict=True)]


def stack(ballots: Sequence[Payload]) -> Payload:
    """Payloads of M senders as one with a leading axis; rows of differing length are filled up with garbage."""
    planes = {}
    for name in ballots[0].planes:
        width = max(b[name].shape[-1] for b in ballots)
        planes[name] = torch.stack([_filled(b[name], width) for b in ballots])
    return Payload(torch.stack([b.valid for b in ballots]), planes)


def _filled(plane: Tensor, width: int) -> Tensor:
    if plane.shape[-1] == width:
        return plane
    return torch.cat((plane, plane.new_full((*plane.shape[:-1], width - plane.shape[-1]), -1)), -1)
