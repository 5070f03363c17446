"""What the spawned ranks of the tests of local steps run on sharded models: two replicas of two shards."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.optim import SGD, AdamW

import gradvote
from gradvote import algorithms
from gradvote.aggregators import Krum
from gradvote.core import Aggregator
from gradvote.local_steps import Fragments, LocalSteps, attach, attach_fragments
from tests.engines.failing_workers import text_of
from tests.engines.fsdp_nets import SEED, Mesh, blocks_alike, new_net, whole
from tests.engines.fsdp_round_habits import frozen_in_fragments, loaded

EVERY, ROUNDS = 3, 2
NAMES = ("noisy-signsgd", "dist-ef-sgdm")


class Prepared(nn.Module):
    """A sum of products, whose gradient is what was given, to the bit: shards and whole models have the same one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = new_net()

    def forward(self, factors: list[Tensor]) -> Tensor:
        pairs = zip([p for p in self.net.parameters() if p.requires_grad], factors, strict=True)
        return torch.stack([(p * factor).sum() for p, factor in pairs]).sum()


def gradients(replica: int, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 * step + replica)
    shapes = [p.shape for p in new_net().parameters() if p.requires_grad]
    return [torch.randint(-8, 9, shape, generator=generator) / 16 for shape in shapes]


def outer_of(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return SGD(params, lr=0.7, momentum=0.9, nesterov=True)


class Script:
    """A worker's loop, on a shard of the model or on the whole of it."""

    def __init__(self, mesh: Mesh, name: str, sharded: bool, **options: Any) -> None:
        self.mesh, self.model = mesh, Prepared()
        if sharded:
            fully_shard(self.model, mesh=mesh.shard)
        self.inner = AdamW([p for p in self.model.parameters() if p.requires_grad], lr=0.01)
        how = {"engine": "fsdp", "group": mesh.replicas} if sharded else {"group": mesh.replicas.get_group()}
        algorithm = blocks_alike(name)
        given: dict[str, Any] = {"every": EVERY, "outer": outer_of, "seed": SEED, **how, **options}
        make = attach_fragments if "fragments" in options else attach
        self.local: LocalSteps | Fragments = make(self.model, self.inner, algorithm, **given)

    def train(self, steps: range, before: Callable[[int], None] = lambda step: None) -> "Script":
        for step in steps:
            self.inner.zero_grad()
            self.model(gradients(self.mesh.replica, step)).backward()
            self.inner.step()
            before(step)
            self.local.step()
        return self

    def states(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "inner": self.inner.state_dict(), "local": self.local.state_dict()}

    def load(self, states: dict[str, Any]) -> "Script":
        self.model.load_state_dict(states["model"])
        self.inner.load_state_dict(states["inner"])
        self.local.load_state_dict(states["local"])
        return self


OPTIONS: dict[str, dict[str, Any]] = {
    "delayed": {"delay": 2, "mix": 0.25},
    "bounded": {"max_norm": 0.05},
    "in fragments": {"fragments": 3},
    "in fragments, delayed": {"fragments": 2, "every": 6, "delay": 2},
}


def equals(mesh: Mesh, name: str, **options: Any) -> tuple[Tensor, Tensor]:
    """With a delay the second run uses the group across replicas while the first one's last round is under way."""
    both = [Script(mesh, name, sharded, **options).train(range(EVERY * ROUNDS)) for sharded in (True, False)]
    for script in both:
        script.local.finish()
    return whole(both[0].model), whole(both[1].model)


def ahead(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """Shown what all agreed on while a round is under way, and itself again afterwards; FSDP works beside the vote."""
    plain, looked = (Script(mesh, "dist-ef-sgdm", True, delay=2) for _ in range(2))

    def look(step: int) -> None:
        with looked.local.agreed():
            looked.model(gradients(mesh.replica, step))

    steps = range(EVERY * ROUNDS)
    for script in (looked.train(steps, look), plain.train(steps)):
        script.local.finish()
    return whole(looked.model), whole(plain.model)


def spoilt(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """One replica's step leads a coordinate of the first shard to infinity: its block abstains, the others vote."""

    def spoil(script: Script) -> Callable[[int], None]:
        @torch.no_grad()
        def before(step: int) -> None:
            if step == 1 and mesh.replica == 1:
                first = next(iter(script.model.parameters()))
                own = first.to_local() if hasattr(first, "to_local") else first  # type: ignore[operator]
                if own is first or mesh.number == 0:
                    own.view(-1)[2] = torch.inf

        return before

    found = []
    for sharded in (True, False):
        script = Script(mesh, "dist-ef-sgdm", sharded)
        with warnings.catch_warnings(action="ignore"):
            found.append(whole(script.train(range(EVERY * ROUNDS), spoil(script)).model))
    return found[0], found[1]


def suppress_warnings() -> Any:
    import warnings  # of this case alone

    return warnings.catch_warnings(action="ignore")


def resumed(mesh: Mesh, folder: str, **options: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """In the middle of a round: from a file of each rank, and from a distributed checkpoint."""
    steps, cut = EVERY * ROUNDS, EVERY + 1
    script = Script(mesh, "dist-ef-sgdm", True, **options).train(range(cut))
    path = Path(folder) / f"rank.{dist.get_rank()}"
    torch.save(script.states(), path)
    dcp.save({"states": script.states()}, checkpoint_id=f"{folder}/states.{mesh.replica}", process_group=_shards(mesh))
    expected = ended(script.train(range(cut, steps)))
    by_file = Script(mesh, "dist-ef-sgdm", True, **options).load(torch.load(path, weights_only=False))
    other = Script(mesh, "dist-ef-sgdm", True, **options)
    other.train(range(0, 1))  # AdamW has a place for its states after a step
    found = {"states": other.states()}
    dcp.load(found, checkpoint_id=f"{folder}/states.{mesh.replica}", process_group=_shards(mesh))
    by_parts = other.load(found["states"])
    rest = range(cut, steps)
    return {
        "file": (ended(by_file.train(rest)), expected),
        "parts": (ended(by_parts.train(rest)), expected),
    }


def ended(script: Script) -> Tensor:
    script.local.finish()
    return whole(script.model)


def _shards(mesh: Mesh) -> dist.ProcessGroup:
    return mesh.shard.get_group()


def raw_gradients(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """Without an inner optimizer the gradient itself is voted on, as by `gradvote.fsdp`."""
    models = []
    for by_rounds in (True, False):
        model, algorithm = Prepared(), blocks_alike("dist-ef-sgdm")
        fully_shard(model, mesh=mesh.shard)
        if by_rounds:
            how = {"engine": "fsdp", "group": mesh.replicas, "seed": SEED}
            step = attach(model, None, algorithm, every=1, outer=lambda params: SGD(params, lr=0.1), **how).step
        else:
            optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
            gradvote.fsdp.attach(model, algorithm, group=mesh.replicas, optimizer=optimizer, seed=SEED)
            step = optimizer.step
        for k in range(3):
            model.zero_grad()
            model(gradients(mesh.replica, k)).backward()
            step()
        models.append(whole(model))
    return models[0], models[1]


def refusals(mesh: Mesh) -> dict[str, str]:
    algorithm, outer = algorithms.signsgd(), outer_of

    def of(model: nn.Module, rule: Aggregator | None = None, **more: Any) -> str:
        inner = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        options = {"engine": "fsdp", "group": mesh.replicas, "every": 4, "outer": outer, **more}
        own = replace(algorithm, aggregate=rule or algorithm.aggregate)
        return text_of(lambda: attach(model, inner, own, **options))

    def sharded() -> nn.Module:
        model = Prepared()
        fully_shard(model, mesh=mesh.shard)
        return model

    replaced = Script(mesh, "signsgd", True)
    replaced.model.load_state_dict({n: v.clone() for n, v in replaced.model.state_dict().items()}, assign=True)
    moved = Script(mesh, "signsgd", True)
    first: Any = next(iter(moved.model.parameters()))
    first._local_tensor = first._local_tensor.clone()  # what FSDP does where a module is moved
    rows = sharded()
    unknown: dict[str, Any] = {"chunks": 2} if dist.get_rank() == 3 else {}
    with suppress(ValueError):
        replaced.train(range(1))
    return {
        "plain": of(Prepared()),
        "another engine": of(sharded(), engine="distributed", group=None),
        "groups": groups_of_their_own(of, sharded),
        "chunks": of(sharded(), chunks=2),
        "one rank's own chunks": of(sharded(), **unknown),
        "one replica's own rule": of(sharded(), rule=Krum() if mesh.replica == 1 else None),
        "one rank's own delay": of(sharded(), delay=1 if dist.get_rank() == 3 else 0),
        "one rank's own H": of(sharded(), every=5 if dist.get_rank() == 3 else 4),
        "shards' own group": of(sharded(), group=mesh.shard),
        "replaced": text_of(lambda: replaced.train(range(1, EVERY))),
        "moved": text_of(lambda: moved.train(range(EVERY))),
        "fragments": text_of(
            lambda: attach_fragments(
                rows, SGD(rows.parameters(), lr=0.1), algorithm, every=4, fragments=2, outer=outer, engine="elastic"
            )
        ),
    }


def groups_of_their_own(of: Callable[..., str], sharded: Callable[[], nn.Module]) -> str:
    """Rank 3 has a group more than the others."""
    alone = dist.new_group([3])
    text = of(sharded(), delay=1)
    if dist.get_rank() == 3:
        dist.destroy_process_group(alone)
    return text


def patience(mesh: Mesh) -> list[float]:
    """How long the groups of a delayed vote wait, in seconds: as the one that was given, and as the mesh's."""
    ranks = dist.get_process_group_ranks(mesh.replicas.get_group())
    given = dist.new_group(ranks, timeout=timedelta(seconds=77), use_local_synchronization=True)
    model = Prepared()
    fully_shard(model, mesh=mesh.shard)
    inner = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    options: dict[str, Any] = {"engine": "fsdp", "group": given, "every": 4, "delay": 1, "outer": outer_of}
    rounds: Any = attach(model, inner, algorithms.signsgd(), **options).vote
    exchange = rounds._exchange
    groups: list[Any] = [exchange._session.transport.group, exchange._shards.transport.group, mesh.shard.get_group()]
    return [g._get_backend(torch.device("cpu")).options._timeout.total_seconds() for g in groups]


def evaluated(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """After a forward pass alone FSDP leaves whole parameters in the root: at the end of a round, and of the run."""

    def look(script: Script) -> Callable[[int], None]:
        @torch.no_grad()
        def before(step: int) -> None:
            script.model(gradients(mesh.replica, step))

        return before

    plain, looked = (Script(mesh, "dist-ef-sgdm", True) for _ in range(2))
    steps = range(EVERY * ROUNDS)
    return whole(looked.train(steps, look(looked)).model), whole(plain.train(steps).model)


def everything(folder: str) -> None:
    mesh = Mesh(2)
    found: dict[str, Any] = {name: equals(mesh, name) for name in NAMES}
    found |= {case: equals(mesh, "dist-ef-sgdm", **options) for case, options in OPTIONS.items()}
    found |= {
        "ahead": ahead(mesh),
        "spoilt": spoilt(mesh),
        "raw": raw_gradients(mesh),
        "evaluated": evaluated(mesh),
        "frozen in fragments": frozen_in_fragments(mesh),
        "loaded": loaded(mesh),
        "refusals": refusals(mesh),
        "patience": patience(mesh),
    }
    found |= resumed(mesh, folder)
    Path(f"{folder}/delayed").mkdir(exist_ok=True)
    found |= {f"{case}, delayed": pair for case, pair in resumed(mesh, f"{folder}/delayed", delay=2).items()}
    Path(f"{folder}/fragments").mkdir(exist_ok=True)
    found |= {f"{case}, fragments": pair for case, pair in resumed(mesh, f"{folder}/fragments", fragments=3).items()}
    torch.save(found, f"{folder}/{dist.get_rank()}.pt")
