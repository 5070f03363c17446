"""What both ends have agreed on: the algorithm, the layout and the seed; the verbs of a round over all groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import ref

import torch
from torch import Tensor

from gradvote import wire
from gradvote.core import SERVER, Algorithm, Context, Payload, Plane, State
from gradvote.engines.common import whole_vectors
from gradvote.layout import Layout, layout_of, unit_of
from gradvote.staging import CPU, to_device, to_host
from gradvote.wire import Header, Kind

Planes = list[tuple[Plane, ...]]


Named = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of parameters, in their order."""


@dataclass(frozen=True)
class Protocol:
    """An algorithm on a layout. Payloads, states and contexts are lists with one entry per group of the layout.

    `shifts`, of each parameter, are added to the numbers of its blocks where randomness is keyed by them: where the
    layout is of a shard of a model, no other shard has the same numbers.
    """

    algorithm: Algorithm
    layout: Layout
    seed: int
    tensors: Named = ()
    shifts: tuple[int, ...] = ()

    @cached_property
    def recipe(self) -> int:
        """A 64-bit digest of `recipe_text`; peers whose digests differ cannot vote together."""
        return int.from_bytes(hashlib.blake2b(self.recipe_text.encode(), digest_size=8).digest(), "little")

    @property
    def recipe_text(self) -> str:
        """Algorithm, names and shapes of the parameters in their order, and seed."""
        return repr((self.algorithm, self.tensors or self.layout.numels, self.seed))

    def contexts(
        self,
        step: int,
        sender: int | Tensor,
        lr: float | Sequence[float],
        attempt: int = 0,
        secret: bytes | None = None,
        device: torch.device = CPU,
    ) -> list[Context]:
        """The context of each group, for work on a device.

        `sender` is a number or a tensor of the CPU, `lr` one rate, or one for each parameter of the whole layout.
        """
        groups = self.layout.groups
        blocks, units = ([*self._keys_on(device)], [g.units_on(device) for g in groups])
        rates = _rates(lr, [g.owners for g in groups], device)
        peers: list[tuple[int, ref[Context]]] = []
        made = [
            Context(self.seed, step, b, sender, r, attempt, secret, u, peers)
            for b, r, u in zip(blocks, rates, units, strict=True)
        ]
        peers += [(g.n, ref(own)) for g, own in zip(groups, made, strict=True)]
        return made

    def _keys_on(self, device: torch.device) -> list[Tensor]:
        """The numbers of the blocks of each group, as randomness is keyed by them: copied to a device once."""
        if device not in self._keys:
            blocks = [g.block_on(device) for g in self.layout.groups]
            if self.shifts:
                more = [torch.tensor([self.shifts[i] for i in g.owners], device=CPU) for g in self.layout.groups]
                blocks = [own + to_device(by, device) for own, by in zip(blocks, more, strict=True)]
            self._keys[device] = blocks
        return self._keys[device]

    @cached_property
    def _keys(self) -> dict[torch.device, list[Tensor]]:
        return {}

    def init_worker(self, like: Tensor) -> list[State]:
        """The state of a worker whose update is shaped like `like` (..., d)."""
        return [self.algorithm.up.init(view) for view in self.layout.views(like)]

    def init_server(self, like: Tensor) -> list[State]:
        """The state of the server for a decision shaped like `like` (d,)."""
        return [self.algorithm.down.init(view) for view in self.layout.views(like)]

    def encode(self, flat: Tensor, states: list[State], ctxs: list[Context]) -> tuple[list[Payload], list[State]]:
        """Worker: update (..., d) -> ballots."""
        views = self.layout.views(flat)
        pairs = [self.algorithm.encode(x, s, c) for x, s, c in zip(views, states, ctxs, strict=True)]
        return [p for p, _ in pairs], [s for _, s in pairs]

    def combine(
        self, ballots: list[Payload], states: list[State], ctxs: list[Context]
    ) -> tuple[list[Payload], list[State]]:
        """Server: ballots (M, B, ...) -> decision (B, ...)."""
        if not self.algorithm.aggregate.separable:
            return whole_vectors.combine(self.algorithm, self.layout, ballots, states, ctxs)
        parts = zip(ballots, states, ctxs, self.layout.groups, strict=True)
        pairs = [self.algorithm.combine(b, s, c, g.n) for b, s, c, g in parts]
        return [p for p, _ in pairs], [s for _, s in pairs]

    def decode(
        self, decision: list[Payload], states: list[State], ctxs: list[Context], out: Tensor | None = None
    ) -> tuple[Tensor, list[State]]:
        """Worker: decision -> direction (..., d), written into `out` where it is given."""
        groups = self.layout.groups
        places = [None] * len(groups) if out is None else self.layout.views(out)
        parts = zip(decision, states, ctxs, groups, places, strict=True)
        pairs = [self.algorithm.decode(p, s, c, g.n, place) for p, s, c, g, place in parts]
        direction = _joined([x.flatten(-2) for x, _ in pairs]) if out is None else out
        return direction, [s for _, s in pairs]

    def decided(self, decision: list[Payload]) -> frozenset[int]:
        """The parameters on some block of which somebody voted, of a decision (B, ...): the others get no gradient."""
        return self.decided_by(to_host([payload.valid for payload in decision]))

    def decided_by(self, flags: Sequence[Tensor]) -> frozenset[int]:
        """The same from the decision's flags (B,) of each group, on the CPU."""
        found: set[int] = set()
        for valid, group in zip(flags, self.layout.groups, strict=True):
            if bool(valid.all()):
                found |= group.params
            else:
                found.update(group.owners[i] for i in valid.nonzero()[:, 0].tolist())
        return frozenset(found)

    def undelivered(self, states: list[State], ballots: list[Payload], ctxs: list[Context]) -> list[State]:
        """Worker: the state after ballots that did not count."""
        parts = zip(states, ballots, ctxs, self.layout.groups, strict=True)
        return [self.algorithm.undelivered(s, b, c, g.n) for s, b, c, g in parts]

    def planes(self, kind: Kind, ctxs: list[Context]) -> Planes:
        """What a ballot or a decision holds, group by group: known before it arrives."""
        groups = self.layout.groups
        if kind == Kind.BALLOT:
            return [self.algorithm.up.planes(g.n, c) for g, c in zip(groups, ctxs, strict=True)]
        down, reports = self.algorithm.down, self.algorithm.up.reports
        return [(*down.planes(g.n, c.as_server()), *reports) for g, c in zip(groups, ctxs, strict=True)]

    def send(self, kind: Kind, payloads: list[Payload], planes: Planes, ctx: Context) -> bytes:
        """One sender's payloads as a framed message."""
        return wire.frame(to_host([wire.pack(payloads, planes)])[0], self.header(kind, ctx))

    def receive(self, kind: Kind, message: bytes, planes: Planes, ctx: Context) -> list[Payload]:
        """The checked payloads of a framed message, on the device of the context.

        Raises:
            WireError: the message is not the one expected.
        """
        body = wire.unframe(message, self.header(kind, ctx))
        return self.parse(kind, to_device(body, ctx.block.device), planes)

    def parse(self, kind: Kind, body: Tensor, planes: Planes) -> list[Payload]:
        """The checked payloads of a message's body (..., bytes)."""
        return self.check(kind, wire.unpack(body, planes, [len(g.blocks) for g in self.layout.groups]))

    def check(self, kind: Kind, payloads: list[Payload]) -> list[Payload]:
        """The payloads with the flags of impossible blocks cleared."""
        up, down = self.algorithm.up, self.algorithm.down
        pairs = zip(payloads, self.layout.groups, strict=True)
        if kind == Kind.BALLOT:
            return [up.check(p, g.n) for p, g in pairs]
        return [up.check_reports(down.check(p, g.n)) for p, g in pairs]

    def header(self, kind: Kind, ctx: Context) -> Header:
        """The header of a sender's message in this round."""
        sender = SERVER if kind == Kind.DECISION else int(ctx.sender)
        return Header(kind, sender, ctx.step, ctx.attempt, self.recipe)


def protocol_for(
    params: Sequence[Tensor], algorithm: Algorithm, seed: int, names: Sequence[str] | None = None
) -> Protocol:
    """The protocol for these parameters, which are called by their numbers where they have no `names`.

    Raises:
        ValueError: there is nothing to train.
    """
    if not any(p.numel() for p in params):
        raise ValueError("There are no trainable parameters; at least one tensor must have requires_grad=True.")
    called = [str(i) for i in range(len(params))] if names is None else names
    tensors = tuple((name, tuple(p.shape)) for name, p in zip(called, params, strict=True))
    numels, units = [p.numel() for p in params], [unit_of(p.shape) for p in params]
    return Protocol(algorithm, layout_of(numels, algorithm.block_size, units), seed, tensors)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts (..., d_k) behind each other; a single one is not copied."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(tuple(parts), -1) if parts else torch.zeros(0, device=CPU)


def _rates(
    lr: float | Sequence[float], owners: Sequence[tuple[int, ...]], device: torch.device
) -> Sequence[float | Tensor]:
    """The rate of each group, or of each of its blocks: one copy to the device for all of them."""
    if isinstance(lr, int | float):
        return [lr] * len(owners)
    each = torch.tensor([lr[owner] for own in owners for owner in own], dtype=torch.float32, device=CPU)
    rates: Sequence[Tensor] = torch.split(to_device(each, device), [*map(len, owners)])
    return rates
