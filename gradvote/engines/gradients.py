"""The workers' gradients: one after another (`loop`), or all at once over a worker axis (`vectorized`).

`loop` runs each worker's forward and backward as a real worker does, and so equals real engines bit for bit;
`vectorized` uses torch.func and is much faster for many small workers, with no promise of equal last bits.

A parameter that a worker's loss does not reach has no gradient, and the worker abstains on it: NaN says so.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from functools import partial
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from gradvote.layout import Layout
from gradvote.rng import Stream, derive_key
from gradvote.staging import CPU, device_of, to_device

Mode = Literal["loop", "vectorized"]
Tensors = dict[str, Tensor]
Batches = Sequence[tuple[Tensor, Tensor]]

_UNUSED: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()


class Padded(NamedTuple):
    """The workers' batches as rectangles: samples (M, n, ...), labels (M, n), and 1 where there is a sample, else 0."""

    x: Tensor
    y: Tensor
    weight: Tensor


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, in their order."""
    return [p for p in model.parameters() if p.requires_grad]


def loop_gradients(
    models: Sequence[nn.Module], batches: Batches, layout: Layout, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Losses (M,) and gradients (M, d) of the mean cross-entropy, worker by worker.

    One model serves all workers, or each has its own. Dropout and the like draw from (seed, step, worker).
    """
    device = device_of(trainable(models[0]))
    losses = torch.zeros(len(batches), device=device, dtype=torch.float32)
    flat = torch.zeros(len(batches), layout.size, device=device, dtype=torch.float32)
    with own_randomness(device) as begin:
        for i, (x, y) in enumerate(batches):
            begin(worker_seed(seed, step, i))
            losses[i], gradients = local_gradients(models[i % len(models)], x, y)
            layout.flatten(gradients, out=flat[i])
    return losses, flat


def local_gradients(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of one worker; NaN for a parameter that was not used."""
    params = trainable(model)
    loss = cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, params, allow_unused=True)
    filled = [torch.full_like(p, torch.nan) if g is None else g for p, g in zip(params, gradients, strict=True)]
    return loss.detach(), filled


def set_gradients(params: Sequence[nn.Parameter], layout: Layout, direction: Tensor, decided: Set[int]) -> None:
    """Make a direction (d,) the gradients of parameters; one on which nobody voted has none (None, not zero)."""
    for p in params:
        if p.grad is None:
            p.grad = torch.empty_like(p, memory_format=torch.contiguous_format)
    layout.unflatten(direction, [p.grad for p in params if p.grad is not None])
    for i, p in enumerate(params):
        p.grad = p.grad if i in decided else None


def of_used(losses: Tensor, gradients: Tensor) -> Tensor:
    """The gradients (M, d), zero where a worker of finite loss has none: what a sum over workers counts."""
    return torch.where(losses.isfinite()[:, None] & gradients.isnan(), 0.0, gradients)


def worker_seed(seed: int, step: int, worker: int) -> int:
    """The seed of a worker's own randomness (dropout) in a step."""
    return derive_key(b"worker:%d:%d" % (seed, worker), Stream.SAMPLING, step) % 2**63


@contextmanager
def own_randomness(device: torch.device) -> Iterator[Callable[[int], object]]:
    """Within, torch's generators of the CPU and of a device are the caller's own: it gives what seeds both."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield partial(begin_randomness, device)


def begin_randomness(device: torch.device, seed: int) -> None:
    """Seed torch's generators of the CPU and of a device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def vectorized_gradients(
    models: Sequence[nn.Module], batches: Batches | Padded, layout: Layout, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """The same as `loop_gradients` up to rounding, all workers at once; batches are padded to the same size.

    Raises:
        ValueError: the model keeps running statistics (BatchNorm), which have no worker axis, or does what torch.vmap
            cannot.
    """
    check_vectorizable(models[0])
    x, y, weight = batches if isinstance(batches, Padded) else padded(batches)
    params, fixed = _state(models)
    of_model = None if len(models) == 1 else 0

    def loss_of(params: Tensors, fixed: Tensors, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        logits = functional_call(models[0], (params, fixed), (x,))
        return (cross_entropy(logits, y, reduction="none") * weight).sum() / weight.sum()

    per_worker = vmap(grad_and_value(loss_of), in_dims=(of_model, of_model, 0, 0, 0), randomness="different")
    with own_randomness(x.device) as begin:
        begin(worker_seed(seed, step, 0))
        try:
            gradients, losses = per_worker(params, fixed, x, y, weight)
        except RuntimeError as error:
            raise ValueError(f"The model cannot be vectorized over workers; use the mode 'loop'. {error}") from error
    unused = _unused(models[0], x[0, :1], y[0, :1])
    return losses.detach(), _flatten([None if k in unused else g for k, g in gradients.items()], layout)


def check_vectorizable(model: nn.Module) -> None:
    """Raise ValueError for a model whose buffers change in the forward pass."""
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in model.modules()):
        raise ValueError(
            "A model with BatchNorm cannot be vectorized over workers, as its running statistics have no worker "
            "axis. Use the mode 'loop', or a model without BatchNorm such as resnet20-nobn."
        )


def _state(models: Sequence[nn.Module]) -> tuple[Tensors, Tensors]:
    """What is trained, and what is not (frozen parameters, buffers); stacked over models where there are several."""
    names = {name for name, p in models[0].named_parameters() if p.requires_grad}
    if len(models) == 1:
        params, buffers = dict(models[0].named_parameters()), dict(models[0].named_buffers())
    else:
        params, buffers = stack_module_state(list(models))
    detached = {name: p.detach() for name, p in params.items()}
    trained = {name: p for name, p in detached.items() if name in names}
    return trained, {**buffers, **{name: p for name, p in detached.items() if name not in names}}


def padded(batches: Batches) -> Padded:
    """Batches of any sizes for `vectorized_gradients`, for those that are used again and again."""
    lengths = torch.tensor([len(y) for _, y in batches], device=CPU)
    join = torch.stack if bool((lengths == lengths[0]).all()) else partial(pad_sequence, batch_first=True)
    x, y = join([x for x, _ in batches]), join([y for _, y in batches])
    return Padded(
        x, y, to_device(torch.arange(int(lengths.max()), device=CPU) < lengths[:, None], x.device).to(x.dtype)
    )


def _unused(model: nn.Module, x: Tensor, y: Tensor) -> frozenset[str]:
    """The parameters that the loss does not reach: the same ones in every step, or vmap would have refused."""
    if model not in _UNUSED:
        names = [name for name, p in model.named_parameters() if p.requires_grad]
        with own_randomness(x.device):
            found = torch.autograd.grad(cross_entropy(model(x), y), trainable(model), allow_unused=True)
        _UNUSED[model] = frozenset(name for name, g in zip(names, found, strict=True) if g is None)
    return _UNUSED[model]


def _flatten(gradients: Sequence[Tensor | None], layout: Layout) -> Tensor:
    tensors = [None if g is None else g.flatten(1) for g in gradients]
    like = next(g for g in tensors if g is not None)
    flat = torch.empty(len(like), layout.size, device=like.device, dtype=torch.float32)
    for p in layout.pieces:
        own = tensors[p.param]
        flat[:, p.offset : p.offset + p.length] = torch.nan if own is None else own[:, p.start : p.start + p.length]
    return flat
