"""Adam's step in one pass: three vectors are read once and three written, where plain operations go through a dozen."""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from gradvote.kernels import adam_reference
from gradvote.kernels.adam_reference import Betas, Moments, advanced_weights, kept_where
from gradvote.kernels.cpu.averages import bounded
from gradvote.kernels.cpu.blocks import result_rows, rows_of
from gradvote.kernels.cpu.jit import program
from gradvote.kernels.cpu.lanes import FLOAT32, INT8, Builder, Scalar, Vector, load, splat, store, store_word
from gradvote.kernels.cpu.loops import each_group, group_at, group_to, value_at
from gradvote.kernels.cpu.signs import INFINITY, if_any
from gradvote.kernels.cpu.spare import spare
from gradvote.kernels.cpu.threads import split
from gradvote.kernels.roots import sqrt

LANES = 64
GRAIN = 1 << 9
"""Groups that are worth a thread."""


def adam_step(x: Tensor, old: Moments, betas: Betas) -> tuple[Tensor, Moments]:
    """`adam_reference.adam_step`."""
    if any(t.dtype != torch.float32 or t.shape != x.shape for t in (x, old.m, old.v)):
        return adam_reference.adam_step(x, old, betas)
    out, whole = [spare.empty(x.shape) for _ in range(3)], torch.ones(x.shape[:-1], dtype=torch.bool, device="cpu")
    weights, divisors = weights_of(old, betas, x.shape[:-1])
    sources, targets = [rows_of(t, LANES) for t in (x, old.m, old.v)], [result_rows(t, LANES) for t in out]
    places = [rows.place for rows in (*sources, *targets)]
    job = (factors_of(betas), places, divisors, whole.data_ptr(), targets[0].groups)
    split(lambda start, stop: _adam(*job[0], *places, *job[2:], start, stop), targets[0].total, GRAIN)
    new = Moments(out[1], out[2], *weights)
    return out[0], new if bool(whole.all()) else kept_where(whole, new, old)


def factors_of(betas: Betas) -> tuple[Any, ...]:
    """β₁, 1 − β₁, β₂, 1 − β₂ and ε."""
    first, second, eps = betas
    return tuple(map(np.float32, (first, 1 - first, second, 1 - second, eps)))


def weights_of(old: Moments, betas: Betas, lead: torch.Size) -> tuple[tuple[Tensor, Tensor], Any]:
    """The new weights, and what rows are divided by: (..., 2) of the first, and the root of the second."""
    weights = advanced_weights(old, betas)
    both = torch.stack([weights[0].expand(lead), sqrt(weights[1]).expand(lead)], -1)
    return weights, both.reshape(-1).numpy()


@program
def _adam(
    builder: Builder,
    beta1: Scalar,
    gain1: Scalar,
    beta2: Scalar,
    gain2: Scalar,
    eps: Scalar,
    x: Any,
    m: Any,
    v: Any,
    update: Any,
    new_m: Any,
    new_v: Any,
    divisors: Scalar,
    whole: Scalar,
    groups: Scalar,
    start: Scalar,
    stop: Scalar,
) -> None:
    """The flag of a row falls where its update is not finite."""
    b1, g1, b2, g2, least = (splat(builder, factor, LANES) for factor in (beta1, gain1, beta2, gain2, eps))
    with each_group(builder, start, stop, groups) as (row, group):
        own, first, second = (
            load(builder, group_at(builder, p, row, group, LANES, 4), FLOAT32, LANES) for p in (x, m, v)
        )
        index = builder.add(row, row)
        weight, root = (
            splat(builder, value_at(builder, divisors, at, FLOAT32), LANES)
            for at in (index, builder.add(index, index.type(1)))
        )
        own = bounded(own)
        first, second = first * b1 + own * g1, second * b2 + own * own * g2
        result = (first / weight) / (_sqrt(second) / root + least)
        for target, found in ((update, result), (new_m, first), (new_v, second)):
            with group_to(builder, target, row, group, LANES, 4) as place:
                store(found, place)
        with if_any(result.magnitude() >= INFINITY[32]):
            store_word(builder, INT8(0), builder.add(whole, row))


def _sqrt(x: Vector) -> Vector:
    """√x, rounded to nearest, as the instruction of every processor does."""
    kind, module, name = x.value.type, x.builder.module, f"llvm.sqrt.v{x.count}f32"
    root = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind]), name)
    return Vector(x.builder, x.builder.call(root, [x.value]))
