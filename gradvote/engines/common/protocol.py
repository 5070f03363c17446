"""What both ends have agreed on: the algorithm, the layout and the seed; the verbs of a round over all groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from weakref import ref

import torch
from torch import Tensor

from gradvote import wire
from gradvote.core import SERVER, SHORTCUTS, Algorithm, Codec, Context, Payload, Plane, State, shortcut
from gradvote.engines.common import whole_vectors
from gradvote.engines.common.all_groups import BlockKeys, Contexts, Payloads, States, flags_of, rates_of, rates_of_rows
from gradvote.engines.common.all_groups import Planes as AllPlanes
from gradvote.engines.common.arguments import check_seed
from gradvote.engines.common.cuts import Cut, cut_of
from gradvote.engines.common.flat_buffer import is_plain, joined
from gradvote.layout import Layout, layout_of, unit_of
from gradvote.ragged import RaggedPlane
from gradvote.scattered import Scattered, Vector, params_of, vector_of
from gradvote.staging import CPU, to_device, to_host
from gradvote.wire import Header, Kind

Planes = Sequence[tuple[Plane, ...]]
Named = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of parameters, in their order."""


@dataclass(frozen=True)
class Protocol:
    """An algorithm on a layout. Payloads, states and contexts are sequences with one entry per group of the layout.

    Where the algorithm is made of parts that `codecs.all_rows` knows, those are views of what is done to all at once.
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
        at_once: bool = False,
    ) -> Sequence[Context]:
        """The context of each group, for work on a device.

        `sender` is a number or a tensor of the CPU, `lr` one rate, or one for each parameter of the whole layout. With
        `at_once`, which an engine sets that keeps states as sequences, all groups are worked on in one call if that
        can be: what these contexts are given to then returns `Payloads` and `States`, else lists. Many senders' ballots
        are worked on in one call on the CPU only.
        """
        together = self.at_once if device.type == "cpu" else isinstance(sender, int) and self.at_once_on_a_card
        if not at_once or not together:
            return self._contexts(step, sender, lr, attempt, secret, device)
        rate, known = rates_of_rows(lr, self.layout.ragged, device)
        whole = Context(self.seed, step, self._keys.of_rows(device), sender, rate, attempt, secret)
        whole.memo.update(known)
        each = partial(self._contexts, step, sender, lr, attempt, secret, device)
        return Contexts(whole, each, len(self.layout.groups))

    @cached_property
    def at_once(self) -> bool:
        """Whether all groups can be worked on in one call, and are more than one or in several tensors."""
        several = len(self.layout.groups) > 1 or len(params_of(self.layout)) > 1
        return several and self._covered

    @cached_property
    def at_once_on_a_card(self) -> bool:
        """Whether a card, for which each call counts, can do so: with one group, too."""
        return self._covered and bool(shortcut("covers on a card", (self.algorithm,)))

    @cached_property
    def _covered(self) -> bool:
        rows = self.layout.ragged
        return rows.size > rows.num_rows and bool(shortcut("covers", (self.algorithm,), rows.longest))

    @cached_property
    def _keys(self) -> BlockKeys:
        return BlockKeys(self.layout, self.shifts)

    @cached_property
    def cut(self) -> Cut:
        """All rows, as they stand in a message."""
        return cut_of(self.layout.ragged)

    def _contexts(
        self,
        step: int,
        sender: int | Tensor,
        lr: float | Sequence[float],
        attempt: int,
        secret: bytes | None,
        device: torch.device,
    ) -> list[Context]:
        groups = self.layout.groups
        blocks, units = self._keys.of_groups(device), [g.units_on(device) for g in groups]
        rates = rates_of(lr, [g.owners for g in groups], device)
        peers: list[tuple[int, ref[Context]]] = []
        made = [
            Context(self.seed, step, b, sender, r, attempt, secret, u, peers)
            for b, r, u in zip(blocks, rates, units, strict=True)
        ]
        peers += [(g.n, ref(own)) for g, own in zip(groups, made, strict=True)]
        return made

    def init_worker(self, like: Tensor) -> Sequence[State]:
        """The state of a worker whose update is shaped like `like` (..., d)."""
        return [self.algorithm.up.init(view) for view in self.layout.views(like)]

    def init_server(self, like: Tensor) -> Sequence[State]:
        """The state of the server for a decision shaped like `like` (d,)."""
        return [self.algorithm.down.init(view) for view in self.layout.views(like)]

    def encode(
        self, update: Vector, states: Sequence[State], ctxs: Sequence[Context]
    ) -> tuple[Sequence[Payload], Sequence[State]]:
        """Worker: update (..., d) -> ballots."""
        if isinstance(ctxs, Contexts) and is_plain(update):
            found = self._at_once("encode all", (self.algorithm.up,), states, ctxs, update)
            if found is not None:
                return self._payloads(found[0], self._planes_of(self.algorithm.up, ctxs.whole)), found[1]
        views = self.layout.views(vector_of(update))
        pairs = [self.algorithm.encode(x, s, c) for x, s, c in zip(views, states, ctxs, strict=True)]
        return [p for p, _ in pairs], [s for _, s in pairs]

    def combine(
        self, ballots: Sequence[Payload], states: Sequence[State], ctxs: Sequence[Context]
    ) -> tuple[Sequence[Payload], Sequence[State]]:
        """Server: ballots (M, B, ...) -> decision (B, ...)."""
        if isinstance(ctxs, Contexts) and isinstance(ballots, Payloads):
            up, rule, down = self.algorithm.up.reader, self.algorithm.aggregate, self.algorithm.down
            found = self._at_once("combine all", (up, rule, down), states, ctxs, ballots.whole)
            if found is not None:
                return self._payloads(found[0], self._planes_of(down, ctxs.whole.as_server())), found[1]
        if not self.algorithm.aggregate.separable:
            return whole_vectors.combine(self.algorithm, self.layout, ballots, states, ctxs)
        parts = zip(ballots, states, ctxs, self.layout.groups, strict=True)
        pairs = [self.algorithm.combine(b, s, c, g.n) for b, s, c, g in parts]
        return [p for p, _ in pairs], [s for _, s in pairs]

    def decode(
        self, decision: Sequence[Payload], states: Sequence[State], ctxs: Sequence[Context], out: Tensor | None = None
    ) -> tuple[Tensor, Sequence[State]]:
        """Worker: decision -> direction (..., d), written into `out` where it is given."""
        direction, new = self.decode_to(decision, states, ctxs, out)
        assert direction is not None, "only what is scattered is written elsewhere"
        return direction, new

    def decode_to(
        self,
        decision: Sequence[Payload],
        states: Sequence[State],
        ctxs: Sequence[Context],
        out: Vector | None,
    ) -> tuple[Tensor | None, Sequence[State]]:
        """The same; None in place of a direction that was written where the coordinates of `out` are scattered."""
        if isinstance(ctxs, Contexts) and isinstance(decision, Payloads):
            home = decision.whole.valid.device
            target = torch.empty(self.layout.size, device=home, dtype=torch.float32) if out is None else out
            given = decision.whole, ctxs.whole.as_server(), target, self.layout.ragged
            if is_plain(target) and shortcut("decode all", (self.algorithm.down.reader,), *given) is not None:
                return None if isinstance(target, Scattered) else target, states
        out = None if out is None else vector_of(out)
        groups = self.layout.groups
        places = [None] * len(groups) if out is None else self.layout.views(out)
        parts = zip(decision, states, ctxs, groups, places, strict=True)
        pairs = [self.algorithm.decode(p, s, c, g.n, place) for p, s, c, g, place in parts]
        direction = joined([x.flatten(-2) for x, _ in pairs]) if out is None else out
        return direction, [s for _, s in pairs]

    def decided(self, decision: Sequence[Payload]) -> frozenset[int]:
        """The parameters on some block of which somebody voted, of a decision (B, ...): the others get no gradient."""
        return self.decided_by(to_host(flags_of(decision)))

    def decided_by(self, flags: Sequence[Tensor]) -> frozenset[int]:
        """The same from the decision's flags of all blocks in the order of the groups, on the CPU."""
        none = torch.zeros(0, dtype=torch.bool, device=CPU)
        valid = flags[0] if len(flags) == 1 else torch.cat([*flags, none])
        if bool(valid.all()):
            return self._params
        return frozenset(self.layout.ragged.owners[valid.numpy()].tolist())

    @cached_property
    def _params(self) -> frozenset[int]:
        return frozenset(self.layout.ragged.owners.tolist())

    def undelivered(self, states: Sequence[State], ballots: Sequence[Payload], ctxs: Sequence[Context]) -> list[State]:
        """Worker: the state after ballots that did not count."""
        parts = zip(states, ballots, ctxs, self.layout.groups, strict=True)
        return [self.algorithm.undelivered(s, b, c, g.n) for s, b, c, g in parts]

    def planes(self, kind: Kind, ctxs: Sequence[Context]) -> Planes:
        """What a ballot or a decision holds, group by group: known before it arrives."""
        if isinstance(ctxs, Contexts):
            whole = ctxs.whole if kind == Kind.BALLOT else ctxs.whole.as_server()
            known = self._planes_of(self.algorithm.up if kind == Kind.BALLOT else self.algorithm.down, whole)
            if known is not None:
                return AllPlanes(known, lambda i: self._planes(kind, i, ctxs[i]), len(ctxs))
        return [self._planes(kind, i, c) for i, c in enumerate(ctxs)]

    def _planes(self, kind: Kind, group: int, ctx: Context) -> tuple[Plane, ...]:
        n, up = self.layout.groups[group].n, self.algorithm.up
        if kind == Kind.BALLOT:
            return up.planes(n, ctx)
        return (*self.algorithm.down.planes(n, ctx.as_server()), *up.reports)

    def send(self, kind: Kind, payloads: Sequence[Payload], planes: Planes, ctx: Context) -> bytes:
        """One sender's payloads as a framed message."""
        return wire.frame(to_host([wire.pack(payloads, planes)])[0], self.header(kind, ctx))

    def receive(self, kind: Kind, message: bytes, planes: Planes, ctx: Context) -> Sequence[Payload]:
        """The checked payloads of a framed message, on the device of the context.

        Raises:
            WireError: the message is not the one expected.
        """
        body = wire.unframe(message, self.header(kind, ctx))
        return self.parse(kind, to_device(body, ctx.block.device), planes)

    def parse(self, kind: Kind, body: Tensor, planes: Planes) -> Sequence[Payload]:
        """The checked payloads of a message's body (..., bytes)."""
        return self.check(kind, wire.unpack(body, planes, [len(g.blocks) for g in self.layout.groups]))

    def check(self, kind: Kind, payloads: Sequence[Payload]) -> Sequence[Payload]:
        """The payloads with the flags of impossible blocks cleared."""
        up, down = self.algorithm.up, self.algorithm.down
        if isinstance(payloads, Payloads):
            checked = shortcut("check all", ((up if kind == Kind.BALLOT else down).reader,), payloads.whole)
            if checked is not None:
                return Payloads(payloads.rows, checked, payloads.planes)
        pairs = zip(payloads, self.layout.groups, strict=True)
        if kind == Kind.BALLOT:
            return [up.check(p, g.n) for p, g in pairs]
        return [up.check_reports(down.check(p, g.n)) for p, g in pairs]

    def _at_once(
        self, doing: str, parts: tuple[object, ...], states: Sequence[State], ctxs: Contexts, given: object
    ) -> tuple[Payload, States] | None:
        """What the entry of `codecs.all_rows` gives; None where there is none, or not for these states."""
        if (doing, *map(type, parts)) not in SHORTCUTS:
            return None
        whole = States.joined(self.layout, states)
        if whole is None:
            return None
        payload, state = shortcut(doing, parts, given, whole.whole, ctxs.whole, self.layout.ragged)
        return payload, States(self.layout, state)

    def _planes_of(self, codec: Codec, ctx: Context) -> tuple[RaggedPlane, ...] | None:
        """The planes of all groups at once."""
        known: tuple[RaggedPlane, ...] | None = shortcut("planes of all", (codec.reader,), ctx, self.layout.ragged)
        return known

    def _payloads(self, payload: Payload, planes: tuple[RaggedPlane, ...] | None) -> Payloads:
        assert planes is not None
        return Payloads(self.layout.ragged, payload, planes)

    def header(self, kind: Kind, ctx: Context) -> Header:
        """The header of a sender's message in this round."""
        sender = SERVER if kind == Kind.DECISION else int(ctx.sender)
        return Header(kind, sender, ctx.step, ctx.attempt, self.recipe)


def protocol_for(
    params: Sequence[Tensor], algorithm: Algorithm, seed: int, names: Sequence[str] | None = None
) -> Protocol:
    """The protocol for these parameters, which are called by their numbers where they have no `names`.

    Raises:
        TypeError: the seed is no whole number.
        ValueError: there is nothing to train, or the seed is out of bounds.
    """
    check_seed(seed)
    if not any(p.numel() for p in params):
        raise ValueError("There are no trainable parameters; at least one tensor must have requires_grad=True.")
    called = [str(i) for i in range(len(params))] if names is None else names
    tensors = tuple((name, tuple(p.shape)) for name, p in zip(called, params, strict=True))
    numels, units = [p.numel() for p in params], [unit_of(p.shape) for p in params]
    return Protocol(algorithm, layout_of(numels, algorithm.block_size, units), seed, tensors)
