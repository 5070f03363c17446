"""What the trainers have in common: the model as DDP has it, plain optimizers, and a vote that is looked after."""

import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch.distributed as dist
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.ddp import OWN_BUFFERS, DDPVote, attach, average_statistics
from gradvote.distributed import Placement
from gradvote.engines.common.clipping import minds_length
from gradvote.engines.common.directions import was_decided
from gradvote.engines.common.owners import warn_of_statistics
from gradvote.faults import Faulty
from gradvote.integrations import checkpoints
from gradvote.rounding import StateDtype


class Options(TypedDict, total=False):
    """What `gradvote.ddp.attach` takes beside what the trainer knows."""

    placement: Placement
    seed: int
    secret: bytes | None
    state_dtype: StateDtype
    timeout: float
    faults: Sequence[Faulty]


class Attached:
    """A vote behind a trainer's DDP model: counts for its log, checkpoints, and a look after each optimizer's step.

    `buffers` is the sentence for models with BatchNorm, in the trainer's own words.
    """

    def __init__(
        self,
        ddp: DistributedDataParallel,
        algorithm: Algorithm,
        optimizers: Sequence[Optimizer],
        scaler: GradScaler | None,
        max_norm: float | None,
        options: Options,
        buffers: str,
    ) -> None:
        with warnings.catch_warnings():  # its words are for loops of one's own
            warnings.filterwarnings("ignore", "The model has BatchNorm")
            self.vote: DDPVote = attach(
                ddp, algorithm, optimizer=optimizers, scaler=scaler, max_norm=max_norm, **options
            )
        self._ddp, self._optimizers, self.max_norm = weakref.ref(ddp), tuple(optimizers), max_norm
        self.params = {id(p) for p in ddp.parameters()}
        self.own_statistics = not any(getattr(ddp, option) for option in OWN_BUFFERS)
        if not self.own_statistics:
            warn_of_statistics(ddp.modules(), buffers, stacklevel=3)
        self._voted = {id(o): self.vote.step for o in optimizers}
        self.removed: Callable[[], str] = str
        """A sentence where nobody looks after this vote any more, with which the next step is refused."""
        self._handles = [o.register_step_pre_hook(self._about_to_step) for o in optimizers]
        self._handles += [o.register_step_post_hook(self._stepped) for o in optimizers]

    @property
    def ddp(self) -> DistributedDataParallel | None:
        """The model, as long as somebody else has it."""
        return self._ddp()

    def is_of(self, ddp: DistributedDataParallel, optimizers: Sequence[Optimizer], max_norm: float | None) -> bool:
        """Whether this is the vote of that model, for a trainer that begins once more.

        Raises:
            ValueError: it is the same model with other optimizers or another bound, which a vote cannot change.
        """
        if self._ddp() is not ddp:
            return False
        if self.max_norm != max_norm or [*map(id, optimizers)] != [*map(id, self._optimizers)]:
            raise ValueError(
                "This model trains once more, with another optimizer or clipping than its votes began with. Make a new "
                "trainer, so that the model is wrapped anew."
            )
        return True

    def numbers(self) -> dict[str, float]:
        """Counts for a trainer's log. Abstentions are those of blocks that this rank serves, of all ranks' ballots."""
        stats = self.vote.stats()
        return {
            "gradvote/step": float(self.vote.step),
            "gradvote/bits_per_coordinate": stats.bits_per_coordinate,
            "gradvote/compression_rate": stats.compression_rate,
            "gradvote/abstentions": float(sum(stats.abstentions)),
        }

    def average(self) -> None:
        """Where running statistics are each rank's own, average them over the ranks; all must call it."""
        ddp = self._ddp()
        if ddp is not None and self.own_statistics and any(map(_is_batch_norm, ddp.modules())):
            average_statistics(ddp)

    def save(self, folder: Path, step: int | None, number: int = 0) -> None:
        """Write this rank's state into a folder."""
        checkpoints.save(folder, self.vote, step, number)

    def load(self, folder: Path, step: int | None, number: int = 0) -> None:
        """Read this rank's state; all ranks must call it."""
        checkpoints.load(folder, self.vote, step, number)
        self._voted = dict.fromkeys(self._voted, self.vote.step)

    def let_go(self) -> None:
        """Look no more at the optimizers' steps."""
        for handle in self._handles:
            handle.remove()

    def _about_to_step(self, *_: Any) -> None:
        if why := self.removed():
            raise RuntimeError(why)

    def _stepped(self, optimizer: Optimizer, *_: Any) -> None:
        """An optimizer took a step: with gradients of this model, so there was a vote since its last one."""
        before, now = self._voted[id(optimizer)], self.vote.step
        self._voted[id(optimizer)] = now
        params = [p for group in optimizer.param_groups for p in group["params"] if id(p) in self.params]
        alone = (p.grad for p in params if now == before and not was_decided(p))  # a direction may be applied twice
        if any(grad is not None and bool(grad.any()) for grad in alone):
            raise RuntimeError(
                f"{type(optimizer).__name__} took a step without a vote, so that the ranks part: the model was wrapped "
                "anew or its communication hook replaced since the vote was attached, or the last backward pass before "
                "the step did not synchronise, or did not reach all parameters, for which DDP waits unless it has "
                "find_unused_parameters=True. Attach to the model that is trained, after it is wrapped."
            )


def renewed(
    before: Attached | None,
    ddp: DistributedDataParallel,
    algorithm: Algorithm,
    optimizers: Sequence[Optimizer],
    scaler: GradScaler | None,
    max_norm: float | None,
    options: Options,
    buffers: str,
) -> Attached:
    """For a trainer that begins, perhaps once more: the vote of `before` where it is this model's, else a new one."""
    if before is not None:
        if before.is_of(ddp, optimizers, max_norm):
            return before
        before.let_go()
    return Attached(ddp, algorithm, optimizers, scaler, max_norm, options, buffers)


def ddp_of(model: Any, where: str) -> DistributedDataParallel:
    """The DDP model in what a trainer trains; `where` names the trainer's setting.

    Raises:
        ValueError: there is none.
    """
    inside = getattr(model, "_orig_mod", model)  # torch.compile keeps it there; the hook is in time before a forward
    if isinstance(inside, DistributedDataParallel):
        return inside
    kind = type(inside).__name__
    if isinstance(inside, nn.DataParallel):
        why = "one process drives all devices, so nobody else votes. Start one process per device, with torchrun"
    elif kind.startswith("FSDP"):
        why = "no rank has a whole gradient there. Use DistributedDataParallel, or gradvote.fsdp in a loop of your own"
    elif any(word in kind for word in ("FullySharded", "DeepSpeed")):
        why = "no rank has a whole gradient there. Use DistributedDataParallel"
    elif not dist.is_initialized() or dist.get_world_size() == 1:
        why = "there is one process, so nobody else votes. Start one process per worker, with torchrun"
    elif getattr(inside, "_is_accelerate_prepared", False):
        why = (
            "Accelerate took it for prepared and did not wrap it, as where a Trainer evaluates or predicts before "
            "train(); its ranks would part without votes, too. Train first (eval_on_start=True evaluates before the "
            "first step), or del model._is_accelerate_prepared"
        )
    else:
        why = "it was not wrapped for several processes. Give what was made of it, as by accelerator.prepare(model)"
    raise ValueError(f"A vote needs a model in DistributedDataParallel; {where} has {kind}: {why}.")


def plain(optimizer: Any) -> Optimizer:
    """The torch optimizer in a trainer's wrapper, which has it as `.optimizer`.

    Raises:
        TypeError: it is no torch optimizer.
    """
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"A vote takes torch optimizers; got {type(optimizer).__name__}.")
    return optimizer


def moved(max_norm: float | None, algorithm: Algorithm, setting: str) -> float | None:
    """A trainer's bound as `max_norm` of the vote, None where it would do nothing; rank 0 says so."""
    if not max_norm:
        return None
    matters = minds_length(algorithm.up)
    if dist.get_rank() == 0:
        then = "bounds each worker's own gradient before the vote" if matters else "is not needed: signs have no length"
        warnings.warn(
            f"{setting}={max_norm} {then}; the trainer's own clipping, which would shorten the direction after the "
            "vote, is off.",
            stacklevel=4,
        )
    return max_norm if matters else None


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
