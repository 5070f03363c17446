"""Gradients in DDP's buckets, as they are in the model: a parameter in channels_last has its numbers in another order.

DDP lays a gradient down as its parameter lies in memory, but hands a hook views that read it row by row. Directions
that were kept from `.grad`, and memories of other engines, are in the order of the shape.
"""

import torch.distributed as dist
from torch import Tensor

Strides = tuple[int, ...]


class BucketViews:
    """Remembers how parameters lay in memory when DDP laid out its buckets: they may be converted later."""

    def __init__(self) -> None:
        self._strides: dict[tuple[int, ...], list[Strides | None]] = {}
        self._passes = 0

    def of(self, bucket: dist.GradBucket) -> list[Tensor]:  # type: ignore[name-defined]  # not in its __all__
        """The gradients of a bucket, as views in the shape and order of their parameters.

        DDP lays its buckets out anew after the first backward pass: with other parameters, maybe at the same address.
        """
        gradients, params = bucket.gradients(), bucket.parameters()
        key = bucket.buffer().data_ptr(), *map(id, params)
        known = self._strides.get(key) if self._passes > 1 else None
        if known is None:
            known = self._strides[key] = [_order_of(p) for p in params]
        self._passes += bucket.is_last()
        return [g if own is None else _in_order(g, own) for g, own in zip(gradients, known, strict=True)]


def _in_order(gradient: Tensor, strides: Strides) -> Tensor:
    return gradient.as_strided(gradient.shape, strides, gradient.storage_offset())


def _order_of(p: Tensor) -> Strides | None:
    """The strides of a parameter that fills its memory in an order of its own; None for all others, as DDP does."""
    if p.is_contiguous():
        return None
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(p.stride(), p.shape, strict=True) if size > 1):
        if stride != expected:
            return None
        expected *= size
    return p.stride()
