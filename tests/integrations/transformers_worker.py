"""Hugging Face's real Trainer on two ranks."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

import gradvote
from gradvote.integrations import checkpoints
from gradvote.integrations.attached import plain
from gradvote.integrations.transformers import VoteCallback
from tests.integrations import small
from tests.integrations.small import CLIP, HALF, STEPS, TWICE, Net, flat, refusal, with_warnings


class Bad(Trainer):
    """On rank 1 the loss of step 1 is not finite."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        return loss * torch.nan if dist.get_rank() == 1 and self.state.global_step == 1 else loss


class Scaled(Trainer):
    """With a scaler, which a Trainer has on a GPU only; in step 1 all ranks overflow."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs) * (torch.inf if self.state.global_step == 1 else 1)


class Short(Trainer):
    """The memory does not suffice at first."""

    failed = False

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.state.global_step == 1 and not self.failed:
            self.failed = True
            raise RuntimeError("CUDA out of memory.")
        return super().training_step(*args, **kwargs)


class Around(Trainer):
    """A loss of one's own that forgets the wrapper."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(self.model if self.state.global_step else model, inputs, *args, **kwargs)


class Endless(IterableDataset):  # type: ignore[type-arg]  # Trainer's
    """Of unknown length: five batches of each rank, which two micro-batches a step do not divide."""

    def __iter__(self) -> Any:
        return iter(small.samples(2 * 5 * small.BATCH))


class Bounds(TrainerCallback):
    """Sees `max_grad_norm` after each step, changes it in the third one, or stops there."""

    def __init__(self, change: float | None = None) -> None:
        self.seen, self.change = list[float](), change

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seen.append(args.max_grad_norm)
        if state.global_step == 3 and self.change is None:
            raise KeyboardInterrupt
        args.max_grad_norm = self.change if state.global_step == 3 else args.max_grad_norm


class ByHand(TrainerCallback):
    """The plain line of docs/distributed.md, without the integration."""

    trainer: Any = None

    def on_train_begin(self, *args: Any, optimizer: Any, **_: Any) -> None:
        gradvote.ddp.attach(
            self.trainer.model_wrapped, small.algorithm(), optimizer=plain(optimizer), max_norm=CLIP, timeout=60
        )


def trainer(folder: Path, kind: type[Trainer] = Trainer, callback: Any = None, norm: bool = False, **own: Any) -> Any:
    settings = dict(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=small.BATCH, use_cpu=True, report_to=[],
        learning_rate=small.LR, max_grad_norm=CLIP, save_steps=HALF, logging_steps=1, disable_tqdm=True, optim="sgd",
        gradient_accumulation_steps=TWICE, lr_scheduler_type="linear", ddp_find_unused_parameters=False, **own,
    )  # fmt: skip
    callbacks = [callback or callback_()]
    return kind(Net(norm), TrainingArguments(**settings), train_dataset=small.samples(), callbacks=callbacks)


def callback_(**own: Any) -> VoteCallback:
    return VoteCallback(small.algorithm(), timeout=60, **own)


def trained(*args: Any, resume: Any = None, **kwargs: Any) -> Any:
    made = trainer(*args, **kwargs)
    made.train(resume_from_checkpoint=resume)
    return made


def vote_of(made: Any) -> Any:
    return next(c for c in made.callback_handler.callbacks if isinstance(c, VoteCallback))


def everything(root: Path) -> dict[str, Any]:
    return {**resuming(root), **habits(root), **refused(root)}


def resuming(root: Path) -> dict[str, Any]:
    own = {"norm": True, "ddp_broadcast_buffers": False}
    whole, said = with_warnings(lambda: trained(root / "whole", **own))
    middle = root / "whole" / f"checkpoint-{HALF}"
    first = flat(whole.model)
    resumed = trained(root / "resumed", resume=str(middle), **own)
    stats = small.counts(vote_of(whole).vote)
    whole.train(resume_from_checkpoint=str(middle))
    hand = ByHand()
    made = trainer(root / "hand", callback=hand, **own)
    made.args.max_grad_norm, hand.trainer = 0.0, made
    made.train()
    return {
        "whole": first, "resumed": flat(resumed.model), "again": flat(whole.model), "by_hand": flat(made.model),
        "said": said, "counts": stats, "logs": whole.state.log_history, "clipping_after": whole.args.max_grad_norm,
    }  # fmt: skip


def habits(root: Path) -> dict[str, Any]:
    bad, said = with_warnings(lambda: trained(root / "bad", Bad, norm=True))
    scaled, scaled_said = with_warnings(lambda: trained(root / "scaled", Scaled))
    short = trained(root / "short", Short, auto_find_batch_size=True, save_total_limit=1)
    return {
        "bad": (flat(bad.model), small.counts(vote_of(bad).vote), said),
        "scaled": (flat(scaled.model), scaled.accelerator.scaler.get_scale(), vote_of(scaled).vote.step, scaled_said),
        "short": (flat(short.model), vote_of(short)._attached.max_norm, vote_of(short).vote.step),
        "folders": sorted(p.name for p in (root / "short").iterdir()),
        "files": sorted(p.name for p in (root / "short" / f"checkpoint-{STEPS}").glob("gradvote*")),
        "around": refusal(lambda: trained(root / "around", Around)),
        "stages": with_warnings(lambda: in_stages(root))[1],
        **settings(root),
        **taken_away(root),
    }


def in_stages(root: Path) -> None:
    """A second Trainer for the same model and optimizer, while the first one is there."""
    kept, model = [], Net()
    optimizer = torch.optim.SGD(model.parameters(), small.LR)
    for name in ("one", "two"):
        made = trainer(root / name)
        made.model = made.model_wrapped = model
        made.optimizer, made.args.max_grad_norm = optimizer, 0.0
        kept.append(made)
        made.train()


def settings(root: Path) -> dict[str, Any]:
    """What others see of `max_grad_norm`, and what is said where it changes or the model is not wrapped."""
    stopped, changed = Bounds(), Bounds(1.0)
    made, other, early = trainer(root / "stopped"), trainer(root / "changed"), trainer(root / "early")
    made.add_callback(stopped)
    other.add_callback(changed)
    with contextlib.suppress(KeyboardInterrupt):
        made.train()
    early.accelerator.prepare_model(early.model, evaluation_mode=True)
    dist.barrier()
    saved = torch.load(root / "whole" / f"checkpoint-{HALF}" / "training_args.bin", weights_only=False)
    return {
        "bounds": {*stopped.seen, made.args.max_grad_norm, saved.max_grad_norm},
        "changed": refusal(other.train),
        "early": refusal(early.train),
    }


def taken_away(root: Path) -> dict[str, Any]:
    """A dataset without a length, whose Trainer then loses the callback; and the way out that the refusal names."""
    made = trainer(root / "endless", save_strategy="no")
    made.train_dataset, callback = Endless(), vote_of(made)
    _, said = with_warnings(made.train)
    made.remove_callback(callback)
    before, votes = flat(made.model), callback.vote.step
    answer, alone = refusal(made.train), callback.vote.step
    plain_one = trainer(root / "plain", callback=Bounds(CLIP), save_strategy="no")
    plain_one.model = plain_one.model_wrapped = made.model
    untouched = torch.equal(before, flat(made.model))
    plain_one.train()
    moved, still = not torch.equal(before, flat(made.model)), callback.vote.step
    made.add_callback(callback)
    return {
        "endless": said, "removed": answer, "untouched": untouched, "plain": (moved, still - alone, votes > STEPS),
        "back": refusal(made.train),
    }  # fmt: skip


def refused(root: Path) -> dict[str, Any]:
    middle = root / "whole" / f"checkpoint-{HALF}"
    copies = {name: root / name for name in ("without", "three", "stale")}
    if dist.get_rank() == 0:
        for copy in copies.values():
            shutil.copytree(middle, copy)
        for path in copies["without"].glob("gradvote-1-*"):
            path.unlink()
        checkpoints.resize(copies["three"], 3)
        for path in (root / "whole" / f"checkpoint-{STEPS}").glob("gradvote*"):
            shutil.copy(path, copies["stale"])
    dist.barrier()
    own = {"norm": True, "ddp_broadcast_buffers": False}
    answers = {
        name: refusal(lambda copy=copy: trained(root / "no", resume=str(copy), **own)) for name, copy in copies.items()
    }
    fresh = trained(root / "fresh", callback=callback_(fresh=True), resume=str(copies["without"]), **own)
    return {"refused": answers, "fresh": (flat(fresh.model), vote_of(fresh).vote.step)}
