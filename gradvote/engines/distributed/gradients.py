"""Gradients in and directions out: parameters of any dtype, device and memory format to flat vectors and back."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from gradvote.layout import Layout


def flat_dtype(params: Sequence[Tensor]) -> torch.dtype:
    """float32, or float64 where a parameter is."""
    return torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32


def flat_update(layout: Layout, gradients: Mapping[int, Tensor | None], dtype: torch.dtype) -> Tensor:
    """The flat vector (d,) on the CPU of a layout's gradients, by parameter number.

    A missing gradient becomes NaN, so that its blocks abstain. One piece of a contiguous gradient is a view.
    """
    if len(layout.pieces) == 1 and (view := _view(layout, gradients, dtype)) is not None:
        return view
    flat = torch.empty(layout.size, dtype=dtype)
    for p in layout.pieces:
        gradient = gradients[p.param]
        place = flat[p.offset : p.offset + p.length]
        if gradient is None:
            place.fill_(torch.nan)
        else:
            place.copy_(gradient.detach().reshape(-1)[p.start : p.start + p.length])
    return flat


def write_directions(parts: Iterable[tuple[Layout, Tensor]], targets: Mapping[int, Tensor]) -> None:
    """Copy layouts' flat vectors (d,), which hold the `targets` whole, into these, by parameter number."""
    places = {i: _contiguous_like(target) for i, target in targets.items()}
    for layout, flat in parts:
        for p in layout.pieces:
            places[p.param].view(-1)[p.start : p.start + p.length].copy_(flat[p.offset : p.offset + p.length])
    for i, target in targets.items():
        if places[i] is not target:
            target.copy_(places[i])


def _contiguous_like(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else torch.empty_like(x, memory_format=torch.contiguous_format)


def _view(layout: Layout, gradients: Mapping[int, Tensor | None], dtype: torch.dtype) -> Tensor | None:
    piece = layout.pieces[0]
    gradient = gradients[piece.param]
    if gradient is None or gradient.dtype != dtype or gradient.device.type != "cpu" or not gradient.is_contiguous():
        return None
    return gradient.detach().view(-1)[piece.start : piece.start + piece.length]
