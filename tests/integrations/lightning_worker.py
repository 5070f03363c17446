"""Lightning's real Trainer on two ranks."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, LearningRateFinder, ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import gradvote
from gradvote.integrations import checkpoints
from gradvote.integrations.lightning import VoteCallback
from tests.integrations import small
from tests.integrations.small import CLIP, HALF, STEPS, TWICE, Net, flat, refusal, with_warnings


class Module(lightning.LightningModule):
    """Makes its own batches, from the number of the step."""

    def __init__(self, norm: bool = False, bad: float = 1.0, around: bool = False) -> None:
        super().__init__()
        self.net, self.bad, self.around = Net(norm), bad, around

    def training_step(self, _: Any, number: int) -> Tensor:
        rank, step = dist.get_rank(), self.trainer.global_step
        loss = self.net(*small.batch(rank, TWICE * step + number % TWICE))["loss"]
        return loss * self.bad if step == 1 and (rank == 1 or self.bad == torch.inf) else loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), small.LR)


class Pair(lightning.LightningModule):
    """Manual optimization with two optimizers, one backward pass for each."""

    def __init__(self, forget: bool = False) -> None:
        super().__init__()
        self.automatic_optimization, self.forget = False, forget
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(6, 3), nn.Linear(6, 3)

    def training_step(self, _: Any, number: int) -> None:
        x, y = small.batch(dist.get_rank(), number)
        for layer, optimizer in zip((self.one, self.two), self.optimizers(), strict=True):
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            loss = cross_entropy(layer(x), y)
            if self.forget:
                loss.backward()
            else:
                self.manual_backward(loss)
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(layer.parameters(), small.LR) for layer in (self.one, self.two)]


class ByHand(Callback):
    """The plain line of docs/distributed.md, without the integration."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        gradvote.ddp.attach(
            trainer.strategy.model, small.algorithm(), optimizer=trainer.optimizers, max_norm=CLIP, timeout=60
        )


class Kept(DummyLogger):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.seen.append({**metrics, "step": float(step or 0)})


def trainer(
    folder: Path, callback: Any = None, ddp: dict[str, Any] | None = None, saver: Any = None, **own: Any
) -> Any:
    saver = saver or ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_epochs=1, save_last="link")
    callback = callback or VoteCallback(small.algorithm(), timeout=60)
    strategy = DDPStrategy(**gradvote.ddp.OWN_BUFFERS, **(ddp or {}))
    settings: dict[str, Any] = {
        "accelerator": "cpu", "devices": 2, "strategy": strategy, "max_epochs": 2, "gradient_clip_val": CLIP,
        "accumulate_grad_batches": TWICE, "log_every_n_steps": 1, "enable_progress_bar": False, "logger": False,
        "enable_model_summary": False, "default_root_dir": folder, "callbacks": [callback, saver],
    }  # fmt: skip
    return lightning.Trainer(**settings | own)


def loader() -> DataLoader:
    return DataLoader(list(range(HALF * TWICE * 2)), batch_size=1)


def fitted(module: Any, *args: Any, resume: Any = None, **own: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(workers|log|sampler|Checkpoint directory|seeded).*")
        made = trainer(*args, **own)
        made.fit(module, loader(), ckpt_path=resume)
    return made


def vote_of(made: Any) -> Any:
    return next(c for c in made.callbacks if isinstance(c, VoteCallback))


def everything(root: Path) -> dict[str, Any]:
    return {**resuming(root), **habits(root), **refused(root), **taken_away(root)}


def resuming(root: Path) -> dict[str, Any]:
    whole, resumed, by_hand, logger = Module(True), Module(True), Module(True), Kept()
    made, said = with_warnings(lambda: fitted(whole, root / "whole", logger=logger))
    first, counts = flat(whole), small.counts(vote_of(made).vote)
    middle = root / "whole" / f"step={HALF}.ckpt"
    fitted(resumed, root / "resumed", resume=str(middle), saver=ModelCheckpoint(root / "resumed", save_top_k=1))
    made.fit(whole, loader(), ckpt_path=str(middle))
    fitted(by_hand, root / "hand", callback=ByHand(), gradient_clip_val=None)
    return {
        "whole": first, "resumed": flat(resumed), "again": flat(whole), "by_hand": flat(by_hand), "said": said,
        "counts": counts, "logs": logger.seen, "clipping_after": made.gradient_clip_val,
        "files": sorted(str(p.relative_to(root)) for p in (root / "resumed").rglob("*.*")),
    }  # fmt: skip


def habits(root: Path) -> dict[str, Any]:
    bad, scaled, pair = Module(bad=torch.nan), Module(bad=torch.inf), Pair()
    worst, said = with_warnings(lambda: fitted(bad, root / "bad", enable_checkpointing=False, callbacks=[new()]))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    amp = MixedPrecision("16-mixed", "cpu", scaler)
    mixed, mixed_said = with_warnings(lambda: fitted(scaled, root / "scaled", plugins=[amp]))
    saver = ModelCheckpoint(root / "pair", save_top_k=1, every_n_train_steps=2)
    averaged = Module(True)
    swa = StochasticWeightAveraging(small.LR, 1)
    fitted(averaged, root / "swa", enable_checkpointing=False, callbacks=[new(), swa])
    manual = {"gradient_clip_val": None, "accumulate_grad_batches": 1, "ddp": {"find_unused_parameters": True}}
    two = fitted(pair, root / "pair", callback=new(max_norm=CLIP), saver=saver, **manual)
    return {
        "bad": (flat(bad), small.counts(vote_of(worst).vote), said),
        "scaled": (flat(scaled), scaler.get_scale(), vote_of(mixed).vote.step, mixed_said),
        "pair": (flat(pair), vote_of(two).vote.step, vote_of(two)._attached.max_norm),
        "swa": flat(averaged),
        "pair_files": sorted(p.name for p in (root / "pair").iterdir()),
        "forgot": refusal(lambda: fitted(Pair(True), root / "forgot", callback=new(), **manual)),
    }


def taken_away(root: Path) -> dict[str, Any]:
    """A Trainer that has lost the callback wraps the model anew: nobody votes, and checkpoints say nothing of votes."""
    module, saver = Module(), ModelCheckpoint(root / "away", "{step}", save_top_k=-1, every_n_epochs=1)
    made = fitted(module, root / "away", saver=saver)
    callback = vote_of(made)
    made.callbacks.remove(callback)
    votes, made.fit_loop.max_epochs = callback.vote.step, 3
    made.fit(module, loader())
    files = sorted(p.name for p in (root / "away").glob(f"step={STEPS + HALF}*"))
    return {"away": (made.global_step, callback.vote.step - votes, files)}


def new(**own: Any) -> VoteCallback:
    return VoteCallback(small.algorithm(), timeout=60, **own)


def refused(root: Path) -> dict[str, Any]:
    middle = root / "whole" / f"step={HALF}.ckpt"
    if dist.get_rank() == 0:
        for name in ("without", "three"):
            shutil.copytree(root / "whole" / f"{middle.name}.votes", root / name / f"{middle.name}.votes")
            shutil.copy(middle, root / name / middle.name)
        shutil.rmtree(root / "without" / f"{middle.name}.votes")
        checkpoints.resize(root / "three" / f"{middle.name}.votes", 3)
    dist.barrier()
    calls = {
        "last": lambda: fitted(Module(True), root / "no", resume=str(root / "whole" / "last.ckpt")),
        "without": lambda: fitted(Module(True), root / "no", resume=str(root / "without" / middle.name)),
        "three": lambda: fitted(Module(True), root / "no", resume=str(root / "three" / middle.name)),
        "value": lambda: fitted(Module(), root / "no", gradient_clip_algorithm="value"),
        "finder": lambda: fitted(Module(), root / "no", callbacks=[new(), LearningRateFinder()]),
        "package": lambda: new().setup(type("Trainer", (), {"__module__": "pytorch_lightning.trainer"})(), None, "fit"),
        "both": lambda: fitted(Module(), root / "no", callback=new(max_norm=1.0)),
        "alone": lambda: fitted(Module(), root / "no", devices=1, strategy="auto"),
    }
    return {"refused": {name: refusal(call) for name, call in calls.items()}}
