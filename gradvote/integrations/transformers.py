"""Hugging Face Trainer with votes: one callback."""

import importlib.util
import math
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

import torch.distributed as dist

from gradvote.core import Algorithm
from gradvote.ddp import DDPVote
from gradvote.engines.common.arguments import check_algorithm
from gradvote.errors import MissingExtra
from gradvote.integrations.attached import Attached, Options, ddp_of, moved, plain, renewed

if importlib.util.find_spec("transformers") is None:
    raise MissingExtra("transformers", "transformers")

from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

__all__ = ["VoteCallback"]

WHERE = "VoteCallback(algorithm)"
BUFFERS = (
    "DDP overwrites every rank's running statistics with those of rank 0, which are not representative where data "
    "differ between ranks. Use TrainingArguments(ddp_broadcast_buffers=False); VoteCallback then averages them before "
    "evaluating and saving."
)
REMOVED = (
    "VoteCallback was removed from the Trainer, but its model votes still, as torch takes no communication hook away. "
    "Make a new Trainer of the same model for training without votes, or give the callback back with add_callback()."
)


class VoteCallback(TrainerCallback):
    """Let the ranks of a Trainer vote: `Trainer(..., callbacks=[VoteCallback(gradvote.algorithms.signum())])`.

    When training begins, the vote is attached to the model that the Trainer has wrapped in DistributedDataParallel,
    with the Trainer's optimizer and scaler. `max_grad_norm` becomes the vote's `max_norm`. Each rank writes its state
    into the Trainer's checkpoints, and `resume_from_checkpoint` goes on bit for bit; with `fresh` memories begin empty,
    whatever a checkpoint has. The Trainer's log has `gradvote/step`, `bits_per_coordinate`, `compression_rate` and
    `abstentions`. Other options are those of `gradvote.ddp.attach`.

    Raises (when training begins):
        ValueError: the model is not in DistributedDataParallel, or a checkpoint has no state of these votes; later,
            `max_grad_norm` was changed.
        RuntimeError: an optimizer took a step without a vote, or the callback was removed and the Trainer trains on.
    """

    def __init__(self, algorithm: Algorithm, *, fresh: bool = False, **options: Unpack[Options]) -> None:
        check_algorithm(algorithm, WHERE)
        self._algorithm, self._fresh, self._options = algorithm, fresh, options
        self._attached: Attached | None = None
        self._bound: float | None = None
        self._folder = Path()
        self._waiting, self._told = 0, False

    @property
    def vote(self) -> DDPVote:
        """The vote of the training that runs, or ran last.

        Raises:
            RuntimeError: no training has begun.
        """
        return self._now().vote

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Attach, and load where training was resumed."""
        trainer, checkpoint, trial = _training()
        if getattr(args, "enable_jit_checkpoint", False):
            raise ValueError(
                "enable_jit_checkpoint saves without telling callbacks, so that the votes' state would be missing. "
                "Leave it out and use save_steps."
            )
        ddp, optimizers = ddp_of(trainer.model_wrapped, "the Trainer"), (plain(trainer.optimizer),)
        _restore(trainer)
        max_norm = moved(args.max_grad_norm, self._algorithm, "TrainingArguments.max_grad_norm")
        scaler, before = getattr(trainer.accelerator, "scaler", None), self._attached
        own = self._algorithm, optimizers, scaler, max_norm, self._options, BUFFERS
        self._attached, self._waiting = renewed(before, ddp, *own), 0
        self._attached.removed = _removed_from(trainer, self)
        self._bound, self._folder = args.max_grad_norm, Path(trainer._get_output_dir(trial))
        if checkpoint is not None and not self._fresh:
            self._now().load(Path(checkpoint), state.global_step)
        _log_with(trainer, self._now())
        _clip_nothing(trainer.accelerator)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Refuse a step of a training whose beginning the callback was not told of, or whose bound has changed."""
        self._now()
        if args.max_grad_norm != self._bound:
            raise ValueError(
                f"TrainingArguments.max_grad_norm was {self._bound} when training began and is {args.max_grad_norm} "
                "now; the bound before the vote does not change within a training. Set it before train()."
            )

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the micro-batches that wait for a step."""
        self._waiting += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Average running statistics before they are used, where DDP leaves them to the ranks."""
        self._waiting = 0
        if control.should_evaluate or control.should_save:
            self._now().average()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """As at the end of a step; tell of a vote that no step has applied."""
        if self._waiting and not control.should_training_stop:
            self._tell_of_rest(args.gradient_accumulation_steps)
        self.on_step_end(args, state, control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write this rank's file into the checkpoint that was just made."""
        if not args.save_only_model:
            self._now().save(self._folder / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}", state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Give the Trainer its own settings back."""
        trainer, *_rest = _training()
        self._now().average()
        _restore(trainer)

    def _tell_of_rest(self, window: int) -> None:
        """Of a dataset without a length the Trainer does not know which batch is the last one of an epoch."""
        if dist.get_rank() == 0 and not self._told:
            warnings.warn(
                f"The epoch ended with {self._waiting} of the {window} micro-batches of a step. They had a vote of "
                "their own, which the Trainer did not apply: it adds it to the next step, which is longer then (with "
                "averages, too). Give each epoch a number of batches that gradient_accumulation_steps divides, or the "
                "dataset a length.",
                stacklevel=2,
            )
        self._told = True

    def _now(self) -> Attached:
        if self._attached is None:
            raise RuntimeError(
                "VoteCallback was not told that training began, so nobody votes. Give it to the Trainer before "
                "train(), once on every rank."
            )
        return self._attached


def _removed_from(trainer: Any, callback: VoteCallback) -> Callable[[], str]:
    """What says whether the Trainer has lost the callback; one that another callback passes on was never listed."""
    its, own = weakref.ref(trainer), weakref.ref(callback)

    def removed() -> str:
        there, here = its(), own()
        return REMOVED if there is not None and here not in there.callback_handler.callbacks else ""

    return removed if callback in trainer.callback_handler.callbacks else str


def _restore(trainer: Any) -> None:
    """Undo what was changed; also what a training left that ended with an error."""
    for owner, name in ((trainer, "log"), (trainer.accelerator, "clip_grad_norm_")):
        if getattr(getattr(owner, name), "of_votes", False):
            delattr(owner, name)


def _clip_nothing(accelerator: Any) -> None:
    """The Trainer's clipping measures the norm only; its arguments stay as they are, as others read and save them."""
    clip = accelerator.clip_grad_norm_

    def measure(parameters: Any, max_norm: float, norm_type: float = 2.0) -> Any:
        return clip(parameters, math.inf, norm_type)

    measure.of_votes = True  # type: ignore[attr-defined]  # to know it again
    accelerator.clip_grad_norm_ = measure


def _log_with(trainer: Any, attached: Attached) -> None:
    """Losses are logged together with the votes' numbers."""
    log = trainer.log

    def with_numbers(logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        log({**logs, **attached.numbers()} if "loss" in logs else logs, *args, **kwargs)

    with_numbers.of_votes = True  # type: ignore[attr-defined]  # to know it again
    trainer.log = with_numbers


def _training() -> tuple[Any, str | None, Any]:
    """The Trainer that calls, the checkpoint that it resumes and the trial of its search.

    The Trainer tells its callbacks neither these nor the wrapped model, so they are read where it has them.
    """
    frame = sys._getframe()
    while frame is not None:
        own = frame.f_locals
        if isinstance(own.get("self"), Trainer) and "resume_from_checkpoint" in own:
            return own["self"], own["resume_from_checkpoint"], own.get("trial")
        frame = frame.f_back  # type: ignore[assignment]
    raise RuntimeError(
        "VoteCallback did not find the Trainer that calls it. It works with transformers.Trainer and its subclasses, "
        "and with their own train()."
    )
