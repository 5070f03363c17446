"""Which tensors are exchanged, by name; and what cannot be, refused in the same sentences everywhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common.arguments import (
    check_algorithm,
    check_members,
    check_model,
    check_optimizers,
    in_words,
)
from gradvote.staging import device_of

Named = Iterable[Tensor] | Iterable[tuple[str, Tensor]]
COMPILED = "_orig_mod."
"""What `torch.compile` puts in front of the names of the model that it wraps."""


@dataclass(frozen=True)
class Parameters:
    """Names and tensors that are trained, each once (tied weights are one parameter), and those that are frozen."""

    names: list[str]
    tensors: list[Tensor]
    frozen: list[tuple[str, Tensor]]

    @property
    def device(self) -> torch.device:
        """Where all that are trained are."""
        return device_of(self.tensors)

    def beside(self, frozen: Iterable[tuple[str, Tensor]]) -> "Parameters":
        """With frozen ones that were not given, but belong to the same model."""
        known = {id(p) for _, p in self.frozen} | {id(p) for p in self.tensors}
        return replace(self, frozen=[*self.frozen, *((name, p) for name, p in frozen if id(p) not in known)])


def parameters_of(given: Named, where: str) -> Parameters:
    """The parameters in `given`.

    Raises:
        TypeError: these are no parameters.
        ValueError: a tensor is sparse, complex, computed, without values, or a shard of a larger one, or they are on
            several devices.
    """
    if isinstance(given, nn.Module):
        raise TypeError(f"{where} takes parameters; got {in_words(given)}. Give model.named_parameters().")
    if isinstance(given, set | frozenset):
        raise TypeError(
            f"{where} takes parameters in an order that is the same on all workers; got a {type(given).__name__}, "
            "whose order differs from process to process, so that layers would be taken for each other. Give a list."
        )
    if isinstance(given, Tensor | str) or not isinstance(given, Iterable):
        order = " The arguments are in another order than expected." if hasattr(given, "aggregate") else ""
        raise TypeError(f"{where} takes parameters, such as model.named_parameters(); got {in_words(given)}.{order}")
    if isinstance(given, Mapping):
        raise TypeError(
            f"{where} takes parameters, or pairs of name and parameter; got a dictionary. Give its .items()."
        )
    trained: dict[int, tuple[str, Tensor]] = {}
    frozen: dict[int, tuple[str, Tensor]] = {}
    for i, p in enumerate(given):
        name, tensor = p if isinstance(p, tuple) and len(p) == 2 else (str(i), p)
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{where} takes parameters, such as model.named_parameters(); got {in_words(p)} among them."
            )
        (trained if tensor.requires_grad else frozen).setdefault(id(tensor), (plain_name(name), tensor))
    for name, p in trained.values():
        _check_dense(name, p)
    _check_together([*trained.values()])
    return Parameters([n for n, _ in trained.values()], [p for _, p in trained.values()], [*frozen.values()])


def plain_name(name: str) -> str:
    """A parameter's name as in the model that somebody may have compiled: the same on both."""
    return name.replace(COMPILED, "")


def check_gradients(names: Sequence[str], gradients: Iterable[Tensor | None]) -> None:
    """Raise ValueError for a sparse gradient."""
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is not None and gradient.layout != torch.strided:
            raise ValueError(sparse(name))


def check_modules(model: nn.Module) -> None:
    """Raise ValueError for a model whose embeddings give sparse gradients."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse and module.weight.requires_grad:
            raise ValueError(sparse(f"{name}.weight" if name else "weight"))


def sparse(name: str) -> str:
    """What is said of a sparse gradient."""
    return (
        f"The gradient of {name!r} is sparse, and sparse gradients are not exchanged: build its embedding with "
        "sparse=False. Rows that nobody touched cost a vote nothing but their bits."
    )


def _check_together(trained: Sequence[tuple[str, Tensor]]) -> None:
    """One vote has one flat vector and one set of memories, which are where the gradients are."""
    for name, p in trained:
        first, at = trained[0]
        if p.device != at.device:
            raise ValueError(
                f"The parameter {first!r} is on {at.device}, but {name!r} on {p.device}; the parameters of one vote "
                "must be on one device. Move the model to one device, or build an Exchange for those of each device."
            )
    for name, p in trained:
        if p.is_meta and type(p) in (Tensor, nn.Parameter):  # another type may say so of a device of its own
            raise ValueError(
                f"The parameter {name!r} is on the meta device, without values. Give it some first: "
                "model.to_empty(device=...) and its initialisation, or a checkpoint."
            )


def _check_dense(name: str, p: Tensor) -> None:
    if is_lazy(p):
        raise ValueError(
            f"The parameter {name!r} has no shape yet, as its layer is lazy (LazyLinear). Send a batch through the "
            "model first, on all workers."
        )
    if not p.is_leaf:
        raise ValueError(
            f"The parameter {name!r} is computed from others (a layer's weight under a parametrization, a view), so it "
            "never gets a gradient. Give what it is computed from: model.named_parameters()."
        )
    if isinstance(p, DTensor):
        raise ValueError(
            f"The parameter {name!r} is a DTensor: its model is sharded (FSDP2, tensor parallel), so no rank has the "
            "whole update that its error memory needs. Replicas of a model that FSDP2 shards vote by "
            "gradvote.fsdp.attach, or after local steps with engine='fsdp'; else use a model that is whole on every "
            "worker."
        )
    if hasattr(p, "_in_backward_optimizers"):
        raise ValueError(
            f"The parameter {name!r} has an optimizer that steps within the backward pass (torch's "
            "_apply_optimizer_in_backward), before anybody could vote. Leave that out, and step after the vote."
        )
    if p.is_complex():
        raise ValueError(
            f"The parameter {name!r} is {p.dtype}, and a vote is on real numbers. Let the parameter be "
            "torch.view_as_real of it, and use torch.view_as_complex(parameter) in the model."
        )
    if p.layout != torch.strided or not p.is_floating_point():
        raise ValueError(f"The parameter {name!r} is {p.layout}, {p.dtype}; only dense real parameters are exchanged.")


def check_given(model: nn.Module, optimizer: Optimizer | Sequence[Optimizer], algorithm: Algorithm, where: str) -> None:
    """Whether these can be trained together, by workers that come and go.

    Raises:
        TypeError: something else was given.
        ValueError: a wrapped model or optimizer, or sparse gradients.
    """
    check_model(model, where)
    check_optimizers(optimizer, where)
    check_algorithm(algorithm, where)
    check_members(algorithm)
    check_modules(model)
