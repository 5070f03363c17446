"""Gradients in DDP's buckets are read as their parameters lay in memory when the buckets were laid out."""

import torch
from torch import Tensor, nn

from gradvote.engines.distributed.bucket_views import BucketViews

CHANNELS_LAST = torch.channels_last


class Bucket:
    """One bucket of these parameters, which is the last of its pass."""

    def __init__(self, buffer: Tensor, params: list[nn.Parameter]) -> None:
        self._buffer, self._params = buffer, params

    def buffer(self) -> Tensor:
        return self._buffer

    def parameters(self) -> list[nn.Parameter]:
        return self._params

    def gradients(self) -> list[Tensor]:
        sizes = [p.numel() for p in self._params]
        return [own.view(p.shape) for own, p in zip(self._buffer.split(sizes), self._params, strict=True)]

    def is_last(self) -> bool:
        return True


def written(buffer: Tensor, params: list[nn.Parameter]) -> list[Tensor]:
    """Gradients, laid down in the buffer as DDP does: each as its parameter lies."""
    found, used = [], 0
    for p in params:
        gradient = torch.randn(p.shape)
        buffer[used : used + p.numel()].as_strided(p.shape, p.stride(), used).copy_(gradient)
        found.append(gradient)
        used += p.numel()
    return found


def test_other_parameters_at_the_same_address_are_read_in_their_own_order() -> None:
    """DDP lays its buckets out anew, and an allocator gives the same memory again."""
    a = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=CHANNELS_LAST))
    b = nn.Parameter(torch.randn(3, 4, 2, 2))
    c = nn.Parameter(torch.randn(2, 6, 2, 2).to(memory_format=CHANNELS_LAST))
    buffer, views = torch.zeros(a.numel() + b.numel() + c.numel()), BucketViews()
    for order in ([a, b, c], [c, a, b], [b, c, a]) * 2:
        gradients = written(buffer, order)
        found = views.of(Bucket(buffer, order))  # type: ignore[arg-type]  # as much of one as is asked for
        assert all(map(torch.equal, found, gradients))


def test_a_parameter_that_is_converted_later_is_read_as_its_bucket_was_laid_out() -> None:
    p = nn.Parameter(torch.randn(4, 3, 2, 2))
    buffer, views = torch.zeros(p.numel()), BucketViews()
    for _ in range(3):
        gradients = written(buffer, [p])
        found = views.of(Bucket(buffer, [p]))  # type: ignore[arg-type]
        assert torch.equal(found[0], gradients[0])
    p.data = p.data.to(memory_format=CHANNELS_LAST)
    gradient = torch.randn(p.shape)
    buffer.copy_(gradient.flatten())
    assert torch.equal(views.of(Bucket(buffer, [p]))[0], gradient)  # type: ignore[arg-type]
