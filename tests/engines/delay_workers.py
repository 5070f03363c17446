"""Local steps whose rounds arrive late, as two spawned ranks run them, and the same in the simulation."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from gradvote import algorithms, local_steps
from gradvote.codecs import AfterSteps
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.gradients import set_gradients, trainable
from gradvote.engines.pseudo_gradients import LocalWorkers
from gradvote.engines.simulation import Simulation
from gradvote.local_steps import LocalSteps
from tests.engines.local_workers import copied, inner, outer, said_by
from tests.engines.workers import batch, flat, new_model

H, ROUNDS, SEED, MIX = 3, 3, 3, 0.25
NAMES = ("dist-ef-sgdm", "noisy-signsgd")
DELAYS = (1, 2)


def rate_of(round_: int) -> float:
    """The outer rate changes from round to round, just after a round was sent."""
    return 0.05 / (1 + round_)


class Script:
    """A training script on one rank; `slow` lets the exchange take its time."""

    def __init__(
        self, algorithm: Algorithm, delay: int, slow: bool = False, fragments: int = 0, timeout: int = 60
    ) -> None:
        self.model, self.done = new_model(), 0
        self.optimizer = inner(self.model.parameters())
        options: dict[str, Any] = {"outer": outer, "seed": SEED, "timeout": timeout, "delay": delay, "mix": MIX}
        if fragments:
            self.local: Any = local_steps.attach_fragments(
                self.model, self.optimizer, algorithm, every=6, fragments=fragments, **options
            )
        else:
            self.local = local_steps.attach(self.model, self.optimizer, algorithm, every=H, **options)
        for part in getattr(self.local, "parts", [self.local]) if slow else []:
            part._rounds.exchange = partial(_slowly, part._rounds.exchange)

    def run(self, steps: int, seen: list[Tensor] | None = None) -> list[bool]:
        """Where rounds arrived; `seen` is given what all agree on after each step."""
        arrived = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            x, y = batch(dist.get_rank(), self.done)
            cross_entropy(self.model(x), y).backward()
            self.optimizer.step()
            self.done += 1
            arrived.append(self.local.step())
            if seen is not None:
                with self.local.agreed():
                    seen.append(flat(self.model))
            if isinstance(self.local, LocalSteps) and self.done % H == 0:
                for group in self.local.outer.param_groups:
                    group["lr"] = rate_of(self.done // H)
        return arrived


def _slowly(exchange: Any) -> None:
    time.sleep(0.1)
    exchange()


def everything() -> dict[str, Any]:
    return {case.__name__: case() for case in (rounds, resumed, in_fragments, agreed, lost)}


def one() -> tuple[Tensor, list[bool]]:
    """The shortest case, for every run of the tests."""
    return rounds(NAMES[:1], DELAYS[1:])[f"{NAMES[0]}, {DELAYS[1]}"]


def rounds(names: Sequence[str] = NAMES, delays: Sequence[int] = DELAYS) -> dict[str, tuple[Tensor, list[bool]]]:
    """Parameters after all rounds, with the longer delay and a slow exchange."""
    found = {}
    for name in names:
        for delay in delays:
            script = Script(algorithms.create(name), delay, slow=delay == 2)
            arrived = script.run(H * ROUNDS)
            assert script.local.finish() and not script.local.finish() and script.local.round == ROUNDS
            found[f"{name}, {delay}"] = flat(script.model), arrived
    return found


def agreed() -> dict[str, Any]:
    """Looking at what all agree on changes nothing; and what cannot be done meanwhile."""
    script, plain = (Script(algorithms.dist_ef_sgdm(), 2, slow=slow) for slow in (True, False))
    seen: list[Tensor] = []
    before = script.run(H * ROUNDS, seen) == plain.run(H * ROUNDS)
    same = before and torch.equal(flat(script.model), flat(plain.model))
    with script.local.agreed():
        calls = (script.local.step, script.local.finish, script.local.state_dict, script.optimizer.step)
        said = [said_by(call) for call in (*calls, script.local.agreed().__enter__)]
    in_parts = Script(algorithms.dist_ef_sgdm(), 2, fragments=2)
    in_parts.run(7)
    with in_parts.local.agreed():
        starts = torch.equal(flat(in_parts.model), torch.cat([flat_start(part) for part in in_parts.local.parts]))
    in_parts.local.finish()
    return {"seen": seen, "same": same, "said": said, "in_fragments": starts}


def simulated(name: str, delay: int, num: int, rounds: int = ROUNDS) -> Tensor:
    """The same in one process."""
    algorithm, model = algorithms.create(name), new_model()
    params = trainable(model)
    stepping = outer(params)
    named = Algorithm(AfterSteps(algorithm.up, H), algorithm.aggregate, algorithm.down, algorithm.block_size)
    protocol = protocol_for(params, named, SEED, [name for name, _ in model.named_parameters()])
    simulation = Simulation(protocol, num)
    workers = LocalWorkers(model, inner, num, protocol.layout, delay=delay, mix=MIX)
    for step in range(rounds):
        if step == 2:  # a checkpoint goes on to the same bits
            saved, workers = workers.state_dict(), LocalWorkers(model, inner, num, protocol.layout, delay, MIX)
            workers.load_state_dict(copied(saved))
        for group in stepping.param_groups:
            group["lr"] = rate_of(step)
        batches = [[batch(i, step * H + k) for i in range(num)] for k in range(H)]
        _, ways = workers.pseudo_gradients(batches, SEED, step)
        direction = simulation.step(ways, step, rate_of(step))
        set_gradients(params, protocol.layout, direction, simulation.decided[0])
        stepping.step()
    return flat(model)


def resumed() -> dict[int, bool]:
    """Saved at each place of a round that is under way, and before it is sent."""
    found = {}
    for steps in (H, H + 1, H + 2):
        first = Script(algorithms.dist_ef_sgdm(), 2, slow=True)
        first.run(steps)
        saved = copied((first.local.state_dict(), first.model.state_dict(), first.optimizer.state_dict()))
        again = Script(algorithms.dist_ef_sgdm(), 2)
        again.local.load_state_dict(saved[0])
        again.model.load_state_dict(saved[1])
        again.optimizer.load_state_dict(saved[2])
        again.done = steps
        same = [first.run(2 * H) == again.run(2 * H), torch.equal(flat(first.model), flat(again.model))]
        both = [script.local.finish() for script in (first, again)]
        found[steps] = all(same) and both[0] == both[1] and torch.equal(flat(first.model), flat(again.model))
    other = Script(algorithms.dist_ef_sgdm(), 1).local
    found[0] = "saved with a delay of 2 steps; here it is 1" in said_by(lambda: other.load_state_dict(saved[0]))
    return found


def in_fragments() -> tuple[list[bool], bool, Tensor]:
    """Two fragments, six steps to a round, each two steps late."""
    script = Script(algorithms.dist_ef_sgdm(), 2, slow=True, fragments=2)
    arrived = script.run(8)
    saved = copied((script.local.state_dict(), script.model.state_dict(), script.optimizer.state_dict()))
    again = Script(algorithms.dist_ef_sgdm(), 2, fragments=2)
    for own, state in zip((again.local, again.model, again.optimizer), saved, strict=True):
        own.load_state_dict(state)
    again.done = 8
    arrived += script.run(5)
    again.run(5)
    same = torch.equal(flat(script.model), flat(again.model))
    script.local.finish(), again.local.finish()
    starts = torch.cat([pair.agreed.detach().flatten() for part in script.local.parts for pair in part._params])
    return arrived, same, starts


def lost() -> dict[str, Any]:
    """The exchange fails on rank 1 only, while inner steps go on: all are told where the round would have arrived."""
    script = Script(algorithms.dist_ef_sgdm(), 2, timeout=4)
    before = flat_start(script.local)
    if dist.get_rank() == 1:
        script.local._rounds._exchange._step = _broken
    said = said_by(lambda: script.run(H + 2))
    own = {"said": said, "steps": script.done, "start": torch.equal(before, flat_start(script.local))}
    return {**own, "under_way": script.local.finish()}


def _broken(layouts: object) -> None:
    raise RuntimeError("the cable")


def flat_start(local: LocalSteps) -> Tensor:
    return torch.cat([pair.agreed.detach().flatten() for pair in local._params])
