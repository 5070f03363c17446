"""Local steps over an exchange, as two spawned ranks run them, and the same in the simulation."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradvote import algorithms, local_steps
from gradvote.codecs import AfterSteps
from gradvote.core import Algorithm
from gradvote.distributed import Exchange
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.gradients import set_gradients, trainable
from gradvote.engines.pseudo_gradients import LocalWorkers
from gradvote.engines.simulation import Simulation
from gradvote.local_steps import LocalSteps
from tests.engines.workers import batch, flat, new_model

H, ROUNDS, SEED = 3, 3, 3
NAMES = ("dist-ef-sgdm", "noisy-signsgd")


def outer(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True)


def inner(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=0.01)


class Script:
    """A training script on one rank."""

    def __init__(self, algorithm: Algorithm | None = None, every: int = H, model: nn.Module | None = None) -> None:
        self.model = new_model() if model is None else model
        self.optimizer, self.done = inner(self.model.parameters()), 0
        chosen = algorithms.dist_ef_sgdm() if algorithm is None else algorithm
        self.local = local_steps.attach(
            self.model, self.optimizer, chosen, every=every, outer=outer, seed=SEED, timeout=60
        )

    def run(self, steps: int, spoil: Callable[[int], None] = lambda step: None) -> list[Tensor]:
        """The parameters after each round."""
        found = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            x, y = batch(dist.get_rank(), self.done)
            cross_entropy(self.model(x), y).backward()
            spoil(self.done)
            self.optimizer.step()
            self.done += 1
            if self.local.step():
                found.append(flat(self.model).clone())
        return found


def in_fragments() -> dict[str, Any]:
    """Two fragments with H = 4: their rounds come every two steps in turn; saved in the middle, and resumed."""

    def script() -> tuple[nn.Module, torch.optim.Optimizer, Any]:
        model = new_model()
        optimizer = inner(model.parameters())
        options: dict[str, Any] = {"every": 4, "fragments": 2, "outer": outer, "seed": SEED, "timeout": 60}
        return model, optimizer, local_steps.attach_fragments(model, optimizer, algorithms.dist_ef_sgdm(), **options)

    def run(model: nn.Module, optimizer: torch.optim.Optimizer, local: Any, steps: range) -> list[bool]:
        voted = []
        for step in steps:
            optimizer.zero_grad()
            x, y = batch(dist.get_rank(), step)
            cross_entropy(model(x), y).backward()
            optimizer.step()
            voted.append(local.step())
        return voted

    first = script()
    voted = run(*first, range(5))
    saved = first[2].state_dict(), copied(first[0].state_dict()), copied(first[1].state_dict())
    voted += run(*first, range(5, 8))
    second = script()
    second[0].load_state_dict(saved[1])
    second[1].load_state_dict(saved[2])
    second[2].load_state_dict(saved[0])
    run(*second, range(5, 8))
    sizes = [sum(pair.own.numel() for pair in part._params) for part in first[2].parts]
    starts = torch.cat([pair.agreed.detach().flatten() for part in first[2].parts for pair in part._params])
    rounds = [part.round for part in first[2].parts]
    same = torch.equal(flat(first[0]), flat(second[0]))
    return {"voted": voted, "same": same, "sizes": sizes, "starts": starts, "rounds": rounds}


def everything() -> dict[str, Any]:
    cases = (
        raw_equals_engine,
        rounds,
        resumed,
        refused_every,
        not_finite,
        freezing,
        newcomers,
        still,
        scaler,
        statistics,
        in_fragments,
    )
    from tests.engines import delay_workers  # it takes its optimizers from here

    return {case.__name__: case() for case in cases} | {"delayed": delay_workers.one()}


def raw_equals_engine() -> dict[str, bool]:
    """Without an inner optimizer, every=1: the engine itself."""
    return {name: torch.equal(_by_engine(name), _by_local(name)) for name in NAMES}


def _by_engine(name: str) -> Tensor:
    model = new_model()
    optimizer = outer(list(model.parameters()))
    exchange = Exchange(model.named_parameters(), algorithms.create(name), optimizer=optimizer, seed=SEED, timeout=60)
    for step in range(4):
        optimizer.zero_grad()
        x, y = batch(dist.get_rank(), step)
        cross_entropy(model(x), y).backward()
        exchange.step()
        optimizer.step()
    return flat(model)


def _by_local(name: str) -> Tensor:
    model = new_model()
    options = {"every": 1, "outer": torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)}
    local = local_steps.attach(model, None, algorithms.create(name), seed=SEED, timeout=60, **options)
    for step in range(4):
        x, y = batch(dist.get_rank(), step)
        cross_entropy(model(x), y).backward()
        assert local.step() and all(p.grad is None for p in model.parameters())
    return flat(model)


def rounds() -> dict[str, list[Tensor]]:
    return {name: Script(algorithms.create(name)).run(H * ROUNDS) for name in NAMES}


def simulated_rounds(num: int) -> dict[str, Tensor]:
    """The same in one process."""
    return {name: _simulated(algorithms.create(name), num) for name in NAMES}


def _simulated(algorithm: Algorithm, num: int) -> Tensor:
    model = new_model()
    params = trainable(model)
    stepping = outer(params)
    named = Algorithm(AfterSteps(algorithm.up, H), algorithm.aggregate, algorithm.down, algorithm.block_size)
    protocol = protocol_for(params, named, SEED, [name for name, _ in model.named_parameters()])
    simulation, workers = Simulation(protocol, num), LocalWorkers(model, inner, num, protocol.layout)
    for step in range(ROUNDS):
        batches = [[batch(i, step * H + k) for i in range(num)] for k in range(H)]
        _, ways = workers.pseudo_gradients(batches, SEED, step)
        set_gradients(params, protocol.layout, simulation.step(ways, step, 0.05), simulation.decided[0])
        stepping.step()
    return flat(model)


def resumed() -> bool:
    """Saved in the middle of a round."""
    first = Script()
    first.run(H + 1)
    saved = first.local.state_dict(), copied(first.model.state_dict()), copied(first.optimizer.state_dict())
    expected = first.run(2 * H)
    second = Script(model=nn.Sequential(*new_model()))
    second.model.load_state_dict(saved[1])
    second.optimizer.load_state_dict(saved[2])
    second.local.load_state_dict(saved[0])
    second.done = H + 1
    assert second.local.left == H - 1 and second.local.round == 1
    found = second.run(2 * H)
    return len(found) == 2 and all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [copied(value) for value in state]
    return state.clone() if isinstance(state, Tensor) else state


def refused_every() -> tuple[str, str]:
    """Ranks that differ, and a checkpoint of another H."""
    saved = Script().local.state_dict()
    return said_by(lambda: Script(every=4 + dist.get_rank())), said_by(partial(_load_other, saved))


def _load_other(saved: dict[str, Any]) -> None:
    other = Script(every=5).local
    other.load_state_dict(saved)


def said_by(call: Callable[[], object]) -> str:
    try:
        call()
    except (RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def not_finite() -> tuple[list[Tensor], list[str], bool, tuple[int, ...]]:
    """A gradient that is not finite on rank 1 once: its blocks abstain, and it learns again from the next round on."""
    script = Script(algorithms.sgd())

    def spoil(step: int) -> None:
        for p in script.model.parameters():
            if step == 1 and dist.get_rank() == 1 and p.grad is not None:
                p.grad.fill_(torch.nan)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = script.run(3 * H, spoil)
    finite = all(bool(v.isfinite().all()) for s in script.optimizer.state.values() for v in s.values())
    return found, [str(w.message) for w in seen], finite, script.local.vote.stats().abstentions


def freezing() -> tuple[bool, str]:
    """Frozen later: it abstains, and stays where it is on all ranks. Trained later: refused."""
    script = Script(algorithms.signsgd())
    script.run(H)
    first = next(iter(script.model.parameters()))
    first.requires_grad_(False)
    first.grad, before = None, first.detach().clone()
    script.run(H)
    model = new_model()
    next(iter(model.parameters())).requires_grad_(False)
    late = Script(model=model)
    next(iter(model.parameters())).requires_grad_(True)
    return torch.equal(first, before), said_by(late.local.step)


def newcomers() -> str:
    """A parameter that is given to the inner optimizer after the start."""
    script = Script()
    script.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    return said_by(script.local.step)


def still() -> bool:
    """Rank 1 takes no steps: it abstains, so the mean is that of rank 0 alone."""
    script = Script(algorithms.sgd(), every=1)
    start = flat(script.model).clone()
    x, y = batch(0, 0)
    cross_entropy(script.model(x), y).backward()
    if dist.get_rank() == 0:
        script.optimizer.step()
    way = start - flat(script.model)
    every = torch.zeros(1 + dist.get_rank())
    assert script.local.step() and every.numel()
    dist.broadcast(way, 0)
    return torch.allclose(start - flat(script.model), 0.05 * 1.9 * way, atol=1e-6)


def scaler() -> tuple[list[Tensor], int]:
    """A GradScaler of the inner loop, which skips a step on rank 1 only; both count alike."""
    script = Script()
    amp = torch.amp.GradScaler("cpu", init_scale=1024.0)
    found = []
    for step in range(2 * H):
        script.optimizer.zero_grad()
        x, y = batch(dist.get_rank(), step)
        amp.scale(cross_entropy(script.model(x), y)).backward()
        if step == 1 and dist.get_rank() == 1:
            next(iter(script.model.parameters())).grad.fill_(torch.inf)  # type: ignore[union-attr]
        amp.step(script.optimizer)
        amp.update()
        if script.local.step():
            found.append(flat(script.model).clone())
    return found, int(amp.get_scale())


def statistics() -> tuple[Tensor, str]:
    """Ranks begin alike, buffers too; who loads a start behind the model's back is told."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        model[1].running_mean.fill_(float(dist.get_rank()))
    optimizer = inner(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local: LocalSteps = local_steps.attach(model, optimizer, algorithms.sgd(), every=2, outer=outer, timeout=60)
    local._start.load_state_dict(local._start.state_dict())
    return flat(model), said_by(local.step)
