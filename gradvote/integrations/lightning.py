"""Lightning's Trainer with votes: one callback. The votes' state lies beside a checkpoint, in a folder of its own."""

import importlib.util
import math
import shutil
from pathlib import Path
from typing import Any, Unpack

from gradvote.core import Algorithm
from gradvote.ddp import DDPVote
from gradvote.engines.common.arguments import check_algorithm
from gradvote.errors import MissingExtra
from gradvote.integrations.attached import Attached, Options, ddp_of, moved, plain, renewed

if importlib.util.find_spec("lightning") is None:
    raise MissingExtra("lightning", "lightning")

from lightning.pytorch.callbacks import Callback, LearningRateFinder
from lightning.pytorch.strategies import DDPStrategy

__all__ = ["VoteCallback"]

WHERE = "VoteCallback(algorithm)"
KEY, SUFFIX = "gradvote", ".votes"
BUFFERS = (
    "DDP overwrites every rank's running statistics with those of rank 0, which are not representative where data "
    "differ between ranks. Use DDPStrategy(**gradvote.ddp.OWN_BUFFERS); VoteCallback then averages them before "
    "validating and saving."
)


class VoteCallback(Callback):
    """Let the ranks vote: `Trainer(strategy="ddp", callbacks=[VoteCallback(gradvote.algorithms.signum())])`.

    When training begins, the vote is attached to the model that the strategy has wrapped, with all of the Trainer's
    optimizers and its scaler. `gradient_clip_val` becomes the vote's bound; `max_norm` is for manual optimization,
    where Lightning has no such setting. Each rank writes its state beside a checkpoint `x.ckpt`, into `x.ckpt.votes`,
    and `fit(ckpt_path=...)` goes on bit for bit; with `fresh` memories begin empty, whatever a checkpoint has. The
    Trainer's loggers get `gradvote/step`, `bits_per_coordinate`, `compression_rate` and `abstentions`. Other
    options are those of `gradvote.ddp.attach`.

    Raises (when training begins):
        ValueError: another strategy than DDP, one process, clipping by value, a learning rate finder, or a checkpoint
            without a state of these votes.
        RuntimeError: an optimizer took a step without a vote.
    """

    def __init__(
        self, algorithm: Algorithm, *, max_norm: float | None = None, fresh: bool = False, **options: Unpack[Options]
    ) -> None:
        check_algorithm(algorithm, WHERE)
        self._algorithm, self._max_norm, self._fresh, self._options = algorithm, max_norm, fresh, options
        self._attached: Attached | None = None
        self._bound: float | None = None
        self._saved_in: str | None = None
        self._logged = 0

    @property
    def vote(self) -> DDPVote:
        """The vote of the training that runs, or ran last.

        Raises:
            RuntimeError: no training has begun.
        """
        if self._attached is None:
            raise RuntimeError("There is no vote before training has begun.")
        return self._attached.vote

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what cannot be voted with, before anything is done."""
        if stage != "fit":
            return
        self._saved_in = None
        if type(trainer).__module__.startswith("pytorch_lightning"):
            raise ValueError(
                "VoteCallback is for the package lightning; the Trainer is pytorch_lightning's, which has other "
                "classes. Import lightning.pytorch in place of pytorch_lightning."
            )
        strategy = trainer.strategy
        if not isinstance(strategy, DDPStrategy):
            raise ValueError(
                f"A vote needs DistributedDataParallel; the Trainer has {type(strategy).__name__}. Use strategy='ddp' "
                "and several devices."
            )
        if trainer.world_size == 1:
            raise ValueError("A vote needs several processes; the Trainer has one. Give it devices=2 or more.")
        if any(isinstance(callback, LearningRateFinder) for callback in trainer.callbacks):
            raise ValueError(
                "Lightning's learning rate finder trains without callbacks, on averages, whose rates do not fit votes. "
                "Leave it out and use gradvote.suggest_lr."
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach, and load where training was resumed."""
        ddp, optimizers = ddp_of(trainer.strategy.model, "the Trainer"), [plain(o) for o in trainer.optimizers]
        max_norm = self._clipping(trainer)
        for callback in trainer.checkpoint_callbacks:
            _beside(getattr(callback, "dirpath", None))
        scaler, before = getattr(trainer.precision_plugin, "scaler", None), self._attached
        own = self._algorithm, optimizers, scaler, max_norm, self._options, BUFFERS
        self._attached = renewed(before, ddp, *own)
        if trainer.gradient_clip_val is not None:
            self._bound, trainer.gradient_clip_val = trainer.gradient_clip_val, None
        if trainer.ckpt_path and trainer.global_step and not self._fresh:  # finders leave a path, but no step
            path = Path(trainer.ckpt_path)
            self._attached.load(path.with_name(self._saved_in or path.name + SUFFIX), trainer.global_step)
        self._logged = trainer.global_step
        self._save_with(trainer)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """The name of the votes' folder, also where the checkpoint is a link or a copy (`last.ckpt`)."""
        self._saved_in = checkpoint.get(KEY)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Average running statistics, where DDP leaves them to the ranks; `checkpoint` has the same tensors."""
        self._average()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Log, as often as the Trainer does."""
        step = trainer.global_step
        if self._attached is None or not trainer.loggers or step == self._logged:
            return
        if step % (trainer.log_every_n_steps or math.inf) == 0:
            self._logged = step
            numbers = self._attached.numbers()
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step=step)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Average running statistics, where DDP leaves them to the ranks."""
        self._average()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the Trainer its own settings back."""
        self._average()
        self._restore(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """As at the end of training."""
        self._restore(trainer)

    def _average(self) -> None:
        if self._attached is not None:
            self._attached.average()

    def _clipping(self, trainer: Any) -> float | None:
        """The bound before the vote.

        Raises:
            ValueError: there are two, or one of another kind.
        """
        own = trainer.gradient_clip_val
        if own and self._max_norm:
            raise ValueError(
                f"Trainer(gradient_clip_val={own}) and VoteCallback(max_norm={self._max_norm}) both bound gradients. "
                "Give one of them."
            )
        if own and str(getattr(trainer.gradient_clip_algorithm, "value", "norm")) == "value":
            raise ValueError(
                "gradient_clip_algorithm='value' would cut the coordinates of a direction. Use 'norm', which is "
                "bounded before the vote."
            )
        return moved(own, self._algorithm, "Trainer.gradient_clip_val") if own else self._max_norm

    def _restore(self, trainer: Any) -> None:
        if self._bound is not None:
            trainer.gradient_clip_val, self._bound = self._bound, None

    def _save_with(self, trainer: Any) -> None:
        """The strategy is what hears on every rank to which file a checkpoint goes, and when it is removed."""
        strategy = trainer.strategy
        if getattr(strategy.save_checkpoint, "of_votes", None) is self:
            return
        save, remove = strategy.save_checkpoint, strategy.remove_checkpoint
        listed = self in trainer.callbacks

        def save_checkpoint(checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
            removed = listed and self not in trainer.callbacks  # what trains now does not vote
            folder, whole = _beside(filepath), "optimizer_states" in checkpoint and not removed
            if whole:
                checkpoint[KEY] = folder.name
            save(checkpoint, filepath, storage_options=storage_options)
            if whole and self._attached is not None:
                self._attached.save(folder, trainer.global_step)

        def remove_checkpoint(filepath: Any) -> None:
            remove(filepath)
            if trainer.is_global_zero:
                shutil.rmtree(_beside(filepath), ignore_errors=True)

        save_checkpoint.of_votes = self  # type: ignore[attr-defined]  # to know it again
        strategy.save_checkpoint, strategy.remove_checkpoint = save_checkpoint, remove_checkpoint


def _beside(filepath: Any) -> Path:
    """The folder of the votes beside a checkpoint.

    Raises:
        ValueError: it is not on a file system.
    """
    if "://" in str(filepath):
        raise ValueError(
            f"The votes' state of each rank is written beside a checkpoint on a file system; {filepath} is elsewhere. "
            "Save to a local or shared folder."
        )
    return Path(f"{filepath}{SUFFIX}")
