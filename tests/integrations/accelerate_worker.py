"""A loop for the real Accelerate on two ranks."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.tracking import GeneralTracker
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote.core import Algorithm
from gradvote.integrations import checkpoints
from gradvote.integrations.accelerate import attach
from tests.integrations import small
from tests.integrations.small import CLIP, HALF, LR, STEPS, TWICE, Net, batch, flat, refusal, with_warnings

OWN = DistributedDataParallelKwargs(broadcast_buffers=False)


class Kept(GeneralTracker):
    """Keeps what it is given."""

    name, requires_logging_directory = "kept", False

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, float]] = []

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Nothing is configured."""

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        self.seen.append(values)


class Run:
    """What a script has after `prepare` and `attach`."""

    def __init__(self, norm: bool = False, scaler: Any = None, algorithm: Algorithm | None = None, **own: Any) -> None:
        self.tracker = Kept()
        handlers = [OWN] if norm else []
        self.accelerator = Accelerator(
            cpu=True, gradient_accumulation_steps=TWICE, log_with=self.tracker, kwargs_handlers=handlers
        )
        self.accelerator.init_trackers("votes")
        self.accelerator.scaler = scaler
        net = Net(norm)
        self.model, self.optimizer = self.accelerator.prepare(net, torch.optim.SGD(net.parameters(), LR))
        own = {"max_norm": CLIP, "timeout": 60} | own
        self.vote, self.said = with_warnings(
            lambda: attach(self.accelerator, self.model, algorithm or small.algorithm(), **own)
        )

    def train(self, first: int = 0, last: int = STEPS, bad: float = 1.0, clip: float | None = CLIP) -> "Run":
        rank = dist.get_rank()
        for number in range(TWICE * first, TWICE * last):
            with self.accelerator.accumulate(self.model):
                loss = self.model(*batch(rank, number))["loss"]
                overflow = number == TWICE + 1 and (rank == 1 or bad == torch.inf)
                self.accelerator.backward(loss * bad if overflow else loss)
                if clip is not None and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            if self.accelerator.sync_gradients:
                self.accelerator.log({"loss": loss.item()}, step=number)
        return self

    def flat(self) -> torch.Tensor:
        return flat(self.accelerator.unwrap_model(self.model))


def by_hand(max_norm: float | None) -> torch.Tensor:
    """The same with plain DDP and the plain line."""
    net = Net(True)
    ddp = DistributedDataParallel(net, **gradvote.ddp.OWN_BUFFERS)
    optimizer = torch.optim.SGD(net.parameters(), LR)
    gradvote.ddp.attach(ddp, small.algorithm(), optimizer=optimizer, max_norm=max_norm, timeout=60)
    for step in range(STEPS):
        optimizer.zero_grad()
        for k in range(TWICE):
            x, y = batch(dist.get_rank(), TWICE * step + k)
            if k < TWICE - 1:
                with ddp.no_sync():
                    (ddp(x, y)["loss"] / TWICE).backward()
            else:
                (ddp(x, y)["loss"] / TWICE).backward()
        optimizer.step()
    return flat(net)


def everything(root: Path) -> dict[str, Any]:
    return {**resuming(root), **habits(), **refused(root)}


def resuming(root: Path) -> dict[str, Any]:
    whole, said = with_warnings(lambda: Run(True).train(last=HALF))
    whole.accelerator.save_state(str(root / "half"))
    _, more = with_warnings(lambda: whole.train(HALF))
    resumed = Run(True)
    resumed.accelerator.load_state(str(root / "half"))
    resumed.train(HALF)
    for run in (whole, resumed):
        run.accelerator.save_state(str(root / "end"))  # averages the statistics
    return {
        "whole": whole.flat(), "resumed": resumed.flat(), "by_hand": by_hand(CLIP),
        "unbounded": by_hand(None), "said": [*whole.said, *said, *more],
        "counts": small.counts(whole.vote), "logs": whole.tracker.seen,
        "files": sorted(p.name for p in (root / "half").glob("gradvote*")),
    }  # fmt: skip


def habits() -> dict[str, Any]:
    bad, said = with_warnings(lambda: Run().train(bad=torch.nan))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled, scaled_said = with_warnings(lambda: Run(scaler=scaler).train(bad=torch.inf, clip=None))
    signs, signs_said = with_warnings(lambda: Run(algorithm=gradvote.algorithms.signsgd(), max_norm=None).train())
    return {
        "bad": (bad.flat(), small.counts(bad.vote), said),
        "scaled": (scaled.flat(), scaler.get_scale(), scaled.vote.step, scaled_said),
        "signs": (signs.flat(), signs_said),
        "pair": pair(),
    }


def pair() -> tuple[torch.Tensor, list[int], list[dict[str, float]]]:
    """Two models, a vote each; only the second is clipped, by hand."""
    run = Run()
    layer = nn.Linear(6, 3)
    nn.init.ones_(layer.weight)
    model, optimizer = run.accelerator.prepare(layer, torch.optim.SGD(layer.parameters(), LR))
    vote = attach(run.accelerator, model, gradvote.algorithms.signum(), timeout=60)
    for number in range(2):
        x, y = batch(dist.get_rank(), number)
        run.accelerator.backward(cross_entropy(model(x), y))
        optimizer.step()
        run.accelerator.backward(run.model(x, y)["loss"])
        run.optimizer.step()
        for net in (model, run.model):
            net.zero_grad()
    run.accelerator.log({})
    return torch.cat([run.flat(), flat(layer)]), [run.vote.step, vote.step], run.tracker.seen


def refused(root: Path) -> dict[str, Any]:
    if dist.get_rank() == 0:
        for name in ("without", "three"):
            shutil.copytree(root / "half", root / name)
        for path in (root / "without").glob("gradvote*"):
            path.unlink()
        checkpoints.resize(root / "three", 3)
    dist.barrier()

    def loaded(name: str, **own: Any) -> Callable[[], Any]:
        return lambda: Run(True, **own).accelerator.load_state(str(root / name))

    def wrapped_anew() -> None:
        run = Run()
        run.model = DistributedDataParallel(run.accelerator.unwrap_model(run.model))
        run.train()

    def in_stages() -> None:
        """The same model and optimizer with a new Accelerator, while the first one is there."""
        first = Run(max_norm=None)
        model, plain = first.accelerator.unwrap_model(first.model), first.optimizer.optimizer
        first.train(last=1, clip=None)
        again = Accelerator(cpu=True)
        ddp, optimizer = again.prepare(model, plain)
        attach(again, ddp, small.algorithm(), timeout=60)
        for number in range(2):
            again.backward(ddp(*batch(dist.get_rank(), number))["loss"])
            again.clip_grad_norm_(ddp.parameters(), torch.inf)
            optimizer.step()
            optimizer.zero_grad()

    late = Run()
    late.optimizer.optimizer.state[next(late.model.parameters())]["momentum_buffer"] = torch.zeros(())
    again = refusal(lambda: attach(late.accelerator, late.model, small.algorithm(), timeout=60))
    return {
        "refused": {
            "without": refusal(loaded("without")), "three": refusal(loaded("three")),
            "fresh": refusal(loaded("without", fresh=True)), "anew": refusal(wrapped_anew), "again": again,
            "stages": "; ".join(with_warnings(lambda: refusal(in_stages))[1]) or refusal(in_stages),
            "bound": refusal(lambda: Run(max_norm=None).train()), "other": refusal(lambda: Run().train(clip=1.0)),
            "value": refusal(lambda: (r := Run()).accelerator.clip_grad_value_(r.model.parameters(), 1.0)),
            "plain": refusal(lambda: attach(Accelerator(cpu=True), Net(), small.algorithm())),
            "order": refusal(lambda: attach(late.model, late.accelerator, small.algorithm())),
        },
        "late": with_warnings(lambda: refusal(lambda: attach(late.accelerator, late.model, small.algorithm())))[1],
    }  # fmt: skip
