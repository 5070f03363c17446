"""What every member holds alike: model, optimizer and server state; and a worker's own memory, which is its alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from gradvote import wire
from gradvote.core import Algorithm, Context, Payload
from gradvote.engines.common import releases, shared_state, worker_faults
from gradvote.engines.common.arguments import (
    check_optimizers,
    check_secret,
    check_steps_alone,
)
from gradvote.engines.common.ballot import Ballot, agreed_rates, rates_from_bytes, rates_to_bytes, unpacked
from gradvote.engines.common.clipping import clipped
from gradvote.engines.common.digests import Bytes
from gradvote.engines.common.flat_buffer import FlatBuffer, flat_dtype, target_of
from gradvote.engines.common.optimizers import RatesApart
from gradvote.engines.common.parameter_check import EVERY, ParameterCheck
from gradvote.engines.common.parameters import check_given, check_gradients, parameters_of
from gradvote.engines.common.payloads import check_alike, moved, stack, states_on
from gradvote.engines.common.protocol import Planes, protocol_for
from gradvote.engines.common.releases import releases_of
from gradvote.engines.common.shared_state import copied
from gradvote.engines.common.slot import Slot
from gradvote.engines.common.step_watch import OwnStep
from gradvote.engines.common.terms import member_terms
from gradvote.engines.common.torch_modes import ordinary_tensors
from gradvote.engines.common.training import Training
from gradvote.faults import Faulty
from gradvote.privacy import Gaussian
from gradvote.scattered import Vector
from gradvote.staging import CPU
from gradvote.wire import Kind, WireError

VERSION = 2
WHERE = "attach(model, optimizer, algorithm)"
AGAIN = "start all workers again from a checkpoint, with that parameter in the model and in the optimizer"


class Replica:
    """One worker's copy. `worker` is its own memory, where the gradients are, `server` that of the decision.

    Ballots arrive on the host, so that votes are counted there, and the server's memory is there.
    """

    @ordinary_tensors()
    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        algorithm: Algorithm,
        number: int,
        seed: int,
        secret: bytes | None,
        lies: tuple[Sequence[Faulty], int] = ((), 0),
        scaler: GradScaler | None = None,
        max_norm: float | None = None,
        check_every: int | None = EVERY,
        privacy: Gaussian | None = None,
    ) -> None:
        check_given(model, optimizer, algorithm, WHERE)
        optimizers = check_optimizers(optimizer, WHERE)
        check_steps_alone(optimizers, "vote.step()")
        check_secret(secret)
        self._lies = lies
        self.model, self.number, self.secret = model, number, secret
        parameters = parameters_of(model.named_parameters(), WHERE)
        self._training = Training(parameters, algorithm, optimizers, scaler, max_norm, AGAIN, model.modules())
        self.check = ParameterCheck(parameters.names, parameters.tensors, check_every)
        self.params, self.optimizers = parameters.tensors, self._training.optimizers
        self._group_of, self._own_step = self.optimizers.group_of(), OwnStep(optimizers)
        self.protocol = protocol_for(self.params, algorithm, seed, parameters.names)
        size = self.protocol.layout.size
        self.releases = releases_of(privacy, size, algorithm, secret, scaler, max_norm, restarts=True)
        self.device = parameters.device
        self._buffer = FlatBuffer(flat_dtype(self.params), self.device)
        self.worker = self.protocol.init_worker(self._zeros(self.device))
        self.server = self.protocol.init_server(self._zeros(CPU))
        self._planes: dict[tuple[Slot, int], Planes] = {}
        self._half_way: Slot | None = None
        self._rates = RatesApart()

    @property
    def terms(self) -> dict[str, object]:
        """What all workers must be given alike."""
        return member_terms(self.protocol, self.optimizers, self.check.every)

    def vote(self, slot: Slot) -> Ballot:
        """The ballot on the gradients of now; a parameter without one abstains. No state changes but the account.

        Under an account a step that is tried again votes with what it has released already.

        Raises:
            ValueError: a gradient cannot be exchanged, or other parameters are trained than at the start.
            RuntimeError: a gradient holds the last direction still.
            BudgetSpent: the account allows no further release.
        """
        flat = clipped(self.protocol.layout, self._gradient(), self._training.max_norm)
        flat = flat if self.releases is None else self.releases.release(slot.step, flat)
        lr = self.optimizers.rates()
        ctxs = self.protocol.contexts(slot.step, self.number, lr, slot.attempt, self.secret, self.device)
        faults, num = self._lies
        if faults and self.number < num:
            flat = worker_faults.spoiled_gradient(faults, self.protocol, flat, ctxs, num)
        payloads, after = self.protocol.encode(flat, self.worker, ctxs)
        rates = rates_to_bytes([float(group["lr"]) for group in self.optimizers.groups])
        planes, check = self.protocol.planes(Kind.BALLOT, ctxs), self.check.digest(slot.step)
        return Ballot(slot, rates, planes, payloads, ctxs, after, check)

    def _gradient(self) -> Tensor:
        user = self._training
        user.trained.check()
        user.scaling.unscale()
        gradients, aside = user.directions.collect()
        if aside:
            raise RuntimeError(
                f"The gradient of {user.names[min(aside)]!r} still holds the direction of the last step, which members "
                "that have joined since do not have. Call optimizer.zero_grad() before the backward passes of a step."
            )
        check_gradients(user.names, gradients.values())
        return self._buffer.gather(self.protocol.layout, gradients)

    def rehearse(self, numbers: Iterable[int]) -> None:
        """Go through a step with so many voters each, without a trace: kernels are loaded before anybody waits."""
        zeros, slot = self._zeros(self.device).to(self._buffer.dtype), Slot()
        ctxs = self.protocol.contexts(slot.step, 0, 1.0, device=self.device)
        payloads, _ = self.protocol.encode(zeros, self.worker, ctxs)
        for num in numbers:
            voters = self.protocol.contexts(slot.step, torch.arange(num, device=CPU)[:, None], 1.0)
            ballots = [stack([p] * num) for p in moved(payloads, CPU)]
            server = self.protocol.init_server(self._zeros(CPU))
            decision, _ = self.protocol.combine(self.protocol.check(Kind.BALLOT, ballots), server, voters)
            self.protocol.decode(moved(decision, self.device), self.worker, ctxs)

    def keep(self, ballot: Ballot, counted: bool) -> None:
        """The worker's memory after a ballot; where it did not count, everything in it stays unsent."""
        delivered = ballot.after if counted else self.protocol.undelivered(ballot.after, ballot.payloads, ballot.ctxs)
        self.worker = delivered

    def ballot_bytes(self, slot: Slot, number: int) -> int:
        """The length of a worker's ballot: known before it arrives."""
        blocks = [len(g.blocks) for g in self.protocol.layout.groups]
        return self.rate_bytes + wire.body_bytes(self.planes_of(slot, number), blocks)

    @torch.no_grad()
    def apply(self, slot: Slot, ballots: Mapping[int, Bytes]) -> None:
        """One step with the counted ballots, by worker number.

        Raises:
            WireError: a ballot does not have its length; nothing has been changed.
            RuntimeError: an earlier step has failed half way.
        """
        self.check_whole()
        numbers, protocol = sorted(ballots), self.protocol
        opened = [self._open(slot, number, ballots[number]) for number in numbers]
        rates = agreed_rates([rates for rates, _ in opened])
        voters = torch.tensor(numbers, device=CPU)[:, None]
        ctxs = protocol.contexts(slot.step, voters, self.by_param(rates), slot.attempt)
        stacked = [stack(group) for group in zip(*(payloads for _, payloads in opened), strict=True)]
        decision, server = protocol.combine(protocol.check(Kind.BALLOT, stacked), self.server, ctxs)
        self.follow(slot, rates, decision)
        self.server = server

    def check_whole(self) -> None:
        """Raise RuntimeError where an earlier step has failed half way."""
        if self._half_way is not None:
            raise RuntimeError(
                f"Step {self._half_way.step} failed on this worker while it was applied, so its model may be half "
                "changed. End this process; a new one in its place learns the state from the others."
            )

    @torch.no_grad()
    def follow(self, slot: Slot, rates: Sequence[float], decision: Sequence[Payload]) -> None:
        """The optimizer's step with a decision, at the agreed rates."""
        self.check_whole()
        self._half_way = slot
        self._training.scaling.recall()
        own = self.protocol.contexts(slot.step, self.number, self.by_param(rates), slot.attempt, device=self.device)
        if self._read(self.protocol.check(Kind.DECISION, decision), own):
            self._step_at(rates)
        self._training.scaling.update()
        self._planes = {key: planes for key, planes in self._planes.items() if key[0] > slot}
        self._half_way = None

    def by_param(self, rates: Sequence[float]) -> float | list[float]:
        """The rates of the optimizer's groups as those of the parameters; one, where all are equal."""
        found = [rates[g] for g in self._group_of]
        return found[0] if len(set(found)) == 1 else found

    def snapshot(self, before: bytes | None = None) -> bytes:
        """What a peer needs to be alike; behind other bytes, if there are any, and its length."""
        return shared_state.to_bytes(self._shared(), before or b"", sized=before is not None)

    def restore(self, raw: Bytes) -> None:
        """Become like the peer that took the snapshot; the worker's own memory stays.

        Raises:
            ValueError: the snapshot is of another model or algorithm.
        """
        try:
            state = shared_state.from_bytes(raw)
            server, model, optimizer = state["server"], state["model"], state["optimizer"]
            check_alike(server, self.server, "the server's state of a peer")
            check_alike(dict(model), dict(self.model.state_dict()), "the model of a peer")
            self.optimizers.load_state_dict(optimizer)
            self.model.load_state_dict(model)
        except Exception as error:  # what torch raises for bytes that it did not write is not documented
            raise ValueError(f"The state of a peer does not fit: {error}") from error
        self.server = server

    def forget(self) -> None:
        """Begin with an empty memory of one's own."""
        self.worker = self.protocol.init_worker(self._zeros(self.device))

    def digest(self) -> str:
        """A name of the shared state: equal for members that are alike."""
        return shared_state.digest_of_state(self._shared())

    def state_dict(self) -> dict[str, Any]:
        """The memories of worker and server, on the CPU, where they are no copies; raises as `check_whole` does."""
        self.check_whole()
        own = {"worker": states_on(self.worker, CPU), "server": [*self.server]}
        return {**own, **releases.saved_of(self.releases)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over both memories.

        Raises:
            ValueError: they are those of another algorithm or model; nothing has been changed.
        """
        check_alike(state.get("worker"), self.worker, "the worker's memory")
        check_alike(state.get("server"), self.server, "the server's memory")
        releases.load(self.releases, state)
        self.worker = self.server = []  # let go before there are new ones
        self.worker, self.server = (
            [copied(own) for own in state["worker"]] if self.device == CPU else states_on(state["worker"], self.device),
            [copied(own) for own in state["server"]],
        )
        self._half_way = None

    @property
    def rate_bytes(self) -> int:
        """The length of the rates at the head of a ballot."""
        return 8 * len(self.optimizers.groups)

    def planes_of(self, slot: Slot, number: int) -> Planes:
        """What a worker's ballot holds."""
        if (slot, number) not in self._planes:
            ctxs = self.protocol.contexts(slot.step, number, 1.0, slot.attempt)
            self._planes[slot, number] = self.protocol.planes(Kind.BALLOT, ctxs)
        return self._planes[slot, number]

    def _open(self, slot: Slot, number: int, body: Bytes) -> tuple[Sequence[float], Sequence[Payload]]:
        if len(body) != self.ballot_bytes(slot, number):
            raise WireError(f"The ballot of worker {number} has {len(body)} bytes, not those of its step.")
        blocks = [len(g.blocks) for g in self.protocol.layout.groups]
        rates, raw = body[: self.rate_bytes], bytearray(body[self.rate_bytes :])
        return rates_from_bytes(rates), unpacked(raw, self.planes_of(slot, number), blocks)

    def _read(self, decision: Sequence[Payload], ctxs: Sequence[Context]) -> bool:
        """Make a decision the gradients; whether anything was decided."""

        def decode(out: Vector | None) -> Tensor | None:
            direction, self.worker = self.protocol.decode_to(decision, self.worker, ctxs, out)
            return direction

        decided = self.protocol.decided(decision)
        decision = moved(decision, self.device)
        targets = {i: target_of(p, p.grad) for i, p in enumerate(self.params)}
        self._buffer.scatter([(self.protocol.layout, decode)], targets)
        self._training.give(targets, decided)
        return bool(decided)

    def _step_at(self, rates: Sequence[float]) -> None:
        groups = self.optimizers.groups
        own = [group["lr"] for group in groups]
        self._rates.look(own, rates)
        for group, rate, old in zip(groups, rates, own, strict=True):
            group["lr"] = torch.full_like(old, rate) if isinstance(old, Tensor) else rate
        try:
            self._own_step.take()
        finally:
            for group, old in zip(groups, own, strict=True):
                group["lr"] = old

    def _zeros(self, device: torch.device) -> Tensor:
        return torch.zeros(self.protocol.layout.size, device=device, dtype=torch.float32)

    def _shared(self) -> dict[str, Any]:
        model = dict(self.model.state_dict())
        return {"model": model, "optimizer": self.optimizers.state_dict(), "server": self.server}
