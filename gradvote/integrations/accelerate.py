"""Hugging Face Accelerate with votes: one call after `prepare`."""

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.ddp import DDPVote
from gradvote.engines.common.arguments import check_algorithm
from gradvote.engines.common.clipping import minds_length
from gradvote.errors import MissingExtra
from gradvote.integrations.attached import Attached, Options, ddp_of, plain

if importlib.util.find_spec("accelerate") is None:
    raise MissingExtra("accelerate", "accelerate")

from accelerate import Accelerator

__all__ = ["attach"]

WHERE = "attach(accelerator, model, algorithm)"
OWN = "_gradvote_votes"
BUFFERS = (
    "DDP overwrites every rank's running statistics with those of rank 0, which are not representative where data "
    "differ between ranks. Use Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)]) "
    "and gradvote.ddp.average_statistics(model) before evaluating; save_state averages them, too."
)


def attach(
    accelerator: Accelerator,
    model: torch.nn.Module,
    algorithm: Algorithm,
    *,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    max_norm: float | None = None,
    fresh: bool = False,
    **options: Unpack[Options],
) -> DDPVote:
    """Let the ranks of a script for Accelerate vote; call it after `prepare`, and before `load_state`.

        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        vote = gradvote.integrations.accelerate.attach(accelerator, model, gradvote.algorithms.signum(), max_norm=1.0)

    `optimizer` is, if not given, every prepared one that has parameters of the model. `max_norm` bounds each worker's
    own gradient before the vote; `accelerator.clip_grad_norm_` with the same bound then clips nothing and returns the
    norm of the direction. `save_state` writes a file of each rank into its folder, and `load_state` goes on bit for
    bit; with `fresh` memories begin empty, whatever a checkpoint has. What is given to `accelerator.log` is joined by
    `gradvote/step`, `bits_per_coordinate`, `compression_rate` and `abstentions`. Each of several models has a vote of
    its own. Other options are those of `gradvote.ddp.attach`.

    Raises:
        TypeError: something else than expected was given.
        ValueError: the model is not in DistributedDataParallel, no optimizer has its parameters; later, clipping after
            the vote, or a checkpoint without a state of these votes.
        RuntimeError: later, an optimizer took a step without a vote.
    """
    if not isinstance(accelerator, Accelerator):
        raise TypeError(f"{WHERE} takes an Accelerator; got {type(accelerator).__name__}.")
    check_algorithm(algorithm, WHERE)
    ddp = ddp_of(model, "the model given")
    optimizers = _optimizers(accelerator, ddp, optimizer)
    if any(o.state for o in optimizers):
        warnings.warn(
            "The optimizer has a state already, as after accelerator.load_state: attach before it, so that the votes' "
            "memories are loaded, too.",
            stacklevel=2,
        )
    attached = Attached(ddp, algorithm, optimizers, accelerator.scaler, max_norm, options, BUFFERS)
    votes = getattr(accelerator, OWN, None)
    if votes is None:
        votes = _Votes(accelerator)
        setattr(accelerator, OWN, votes)
    votes.add(attached, algorithm, fresh)
    return attached.vote


class _Votes:
    """The votes of one Accelerator, and what they put in place of its own methods."""

    def __init__(self, accelerator: Any) -> None:
        self._live: list[tuple[Attached, Algorithm, bool]] = []
        self._models: Callable[[], list[Any]] = lambda: accelerator._models
        self._clip: Callable[..., Tensor | None] = accelerator.clip_grad_norm_
        self._cut, self._log = accelerator.clip_grad_value_, accelerator.log
        accelerator.clip_grad_norm_, accelerator.clip_grad_value_ = self.clip_grad_norm_, self.clip_grad_value_
        accelerator.log = self.log
        accelerator.register_save_state_pre_hook(self.save)
        accelerator.register_load_state_pre_hook(self.load)

    def add(self, attached: Attached, algorithm: Algorithm, fresh: bool) -> None:
        """One more; those whose models the Accelerator has given up (`free_memory`) or wrapped anew are forgotten."""
        kept = {id(getattr(model, "_orig_mod", model)) for model in self._models()} - set(_ids(attached))
        gone = [own for own in self._live if kept.isdisjoint(_ids(own[0]))]
        for old, *_ in gone:
            old.let_go()
        self._live = [own for own in self._live if own not in gone]
        self._live.append((attached, algorithm, fresh))

    def save(self, models: Any, weights: Any, output_dir: str) -> None:
        """`weights` holds the buffers themselves, so averages reach it."""
        for number, (attached, *_) in enumerate(self._live):
            attached.average()
            attached.save(Path(output_dir), None, number)

    def load(self, models: Any, input_dir: str) -> None:
        for number, (attached, _, fresh) in enumerate(self._live):
            if not fresh:
                attached.load(Path(input_dir), None, number)

    def log(self, values: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        own = [
            {
                name.replace("gradvote", f"gradvote{number or ''}", 1): value
                for name, value in attached.numbers().items()
            }
            for number, (attached, *_) in enumerate(self._live)
        ]
        return self._log({k: v for each in (values, *own) for k, v in each.items()}, *args, **kwargs)

    def clip_grad_norm_(
        self, parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0
    ) -> Tensor | None:
        given = [parameters] if isinstance(parameters, Tensor) else [*parameters]
        concerned = self._concerned(given)
        if not concerned:
            return self._clip(given, max_norm, norm_type)
        for attached, algorithm, _ in concerned:
            if math.isfinite(max_norm) and minds_length(algorithm.up):
                self._check_bound(attached.max_norm, float(max_norm), float(norm_type))
        voted = set[int]().union(*(attached.params for attached, *_ in concerned))
        rest = [p for p in given if id(p) not in voted]
        if rest:
            self._clip(rest, max_norm, norm_type)
        return self._clip(given, math.inf, norm_type)

    def clip_grad_value_(self, parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
        given = [parameters] if isinstance(parameters, Tensor) else [*parameters]
        if self._concerned(given):
            raise ValueError(
                "accelerator.clip_grad_value_ would cut the coordinates of a direction. Leave it out and give attach "
                "max_norm=, which bounds each worker's own gradient before the vote."
            )
        self._cut(given, clip_value)

    def _concerned(self, given: Sequence[Tensor]) -> list[tuple[Attached, Algorithm, bool]]:
        return [own for own in self._live if any(id(p) in own[0].params for p in given)]

    def _check_bound(self, own: float | None, asked: float, norm_type: float) -> None:
        if own != asked or norm_type != 2:
            raise ValueError(
                f"accelerator.clip_grad_norm_(..., {asked}, norm_type={norm_type:g}) comes after the vote, whose bound "
                f"is {own}. Give attach max_norm={asked}, a Euclidean norm that is bounded before the vote; the call "
                "may stay, and then clips nothing."
            )


def _ids(attached: Attached) -> tuple[int, ...]:
    """What an Accelerator's list of models may hold of a DDP model: itself, or what it was made of."""
    ddp = attached.ddp
    return () if ddp is None else (id(ddp), id(ddp.module), id(getattr(ddp.module, "_orig_mod", ddp.module)))


def _optimizers(
    accelerator: Any, ddp: torch.nn.Module, given: Optimizer | Sequence[Optimizer] | None
) -> list[Optimizer]:
    own = {id(p) for p in ddp.parameters()}
    if given is not None:
        return [plain(each) for each in ([given] if isinstance(given, Optimizer) else given)]
    found = [plain(each) for each in accelerator._optimizers]
    mine = [o for o in found if any(id(p) in own for group in o.param_groups for p in group["params"])]
    if not mine:
        raise ValueError(
            "No prepared optimizer has parameters of this model. Prepare it with the model, or give attach optimizer=."
        )
    return mine
