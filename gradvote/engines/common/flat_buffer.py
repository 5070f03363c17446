"""Gradients in and directions out: parameters of any dtype, device and memory format to flat vectors and back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from gradvote.kernels import reads_scattered
from gradvote.layout import Layout, Piece, copy
from gradvote.scattered import Places, Scattered, Vector, params_of
from gradvote.staging import CPU

Decode = Callable[[Vector | None], Tensor | None]
"""Gives a direction (d,), in the tensor (d,) float32 that it gets, if any; None: it is written where it belongs."""


def check_device(gradients: Iterable[Tensor | None], device: torch.device) -> None:
    """Raise ValueError for a gradient on another device than this one, where the votes began."""
    for gradient in gradients:
        if gradient is not None and gradient.device != device:
            raise ValueError(
                f"A gradient is on {gradient.device}, but the parameters were on {device} when the votes began, and "
                "memories are there still. Move the model to its device before the vote is attached or built."
            )


def flat_dtype(params: Sequence[Tensor]) -> torch.dtype:
    """float32, or float64 where a parameter is."""
    return torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32


def is_plain(x: Vector) -> bool:
    """Whether numbers are written here as they are made."""
    return isinstance(x, Scattered) or (x.dtype == torch.float32 and x.dim() == 1 and x.is_contiguous())


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts (..., d_k) behind each other; a single one is not copied."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(tuple(parts), -1) if parts else torch.zeros(0, device=CPU, dtype=torch.float32)


def target_of(p: Tensor, gradient: Tensor | None) -> Tensor:
    """Where a direction is written: into the gradient itself, but for one without memory of its own for each number."""
    if gradient is None or gradient.is_inference() or _overlaps(gradient):
        return torch.empty_like(p, dtype=gradient_dtype(p))
    return gradient.detach()


def gradient_dtype(p: Tensor) -> torch.dtype:
    """The type that torch asks of a parameter's gradient: `p.grad_dtype`, where a script has set it, or its own."""
    told = getattr(p, "grad_dtype", None)
    return told if isinstance(told, torch.dtype) else p.dtype


class FlatBuffer:
    """A flat vector that is used again and again, for layouts whose coordinates lie in several tensors.

    It is on `device`, where the gradients are.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device = CPU) -> None:
        self.dtype, self.device = dtype, device
        self._flat = torch.empty(0, dtype=dtype, device=device)
        self.places, self.targets = Places(), Places()

    def gather(self, layout: Layout, gradients: Mapping[int, Tensor | None]) -> Tensor:
        """The flat vector (d,) of a layout's gradients, by parameter number; valid until the next call.

        A missing gradient becomes NaN, so that its blocks abstain. What stands together in a gradient is a view.

        Raises:
            ValueError: a gradient is on another device.
        """
        check_device(gradients.values(), self.device)
        view = _view(layout, gradients, self.dtype, self.device)
        return self._copied(layout, gradients) if view is None else view

    def where_they_are(self, layout: Layout, gradients: Mapping[int, Tensor | None]) -> Vector:
        """The same, but gradients that are all there are not copied where kernels read them as they are."""
        check_device(gradients.values(), self.device)
        view = _view(layout, gradients, self.dtype, self.device)
        if view is not None:
            return view
        own = {i: g for i in params_of(layout) if (g := gradients.get(i)) is not None}
        there = self.dtype == torch.float32 and len(own) == len(params_of(layout))
        if not there or not reads_scattered(self.device, (g.dtype for g in own.values())):
            return self._copied(layout, gradients)
        own = {i: g if g.is_contiguous() else g.detach().contiguous() for i, g in own.items()}
        found = self.places.scattered(layout, own, lambda: self._copied(layout, gradients))
        return self._copied(layout, gradients) if found is None else found

    def _copied(self, layout: Layout, gradients: Mapping[int, Tensor | None]) -> Tensor:
        flat, wanted = self.room(layout.size), ((i, gradients.get(i)) for i in params_of(layout))
        given = {i: g.detach().reshape(-1) for i, g in wanted if g is not None}
        places = list(zip(layout.pieces, layout.split(flat), strict=True))
        for p, place in places:
            if p.param not in given:
                place.fill_(torch.nan)
        there = [(p, place) for p, place in places if p.param in given]
        copy([place for _, place in there], [_stretch(given[p.param], p) for p, _ in there])
        return flat

    def scatter(self, parts: Iterable[tuple[Layout, Decode]], targets: Mapping[int, Tensor], scale: float = 1) -> None:
        """Write the directions of layouts, which hold the `targets` whole, times `scale` into these, by number."""
        outbox = Outbox(self, targets, scale)
        for layout, decode in parts:
            outbox.write(layout, decode)
        outbox.finish()

    def fit(self, size: int) -> None:
        """Let go of what is more than is needed for `size` coordinates: DDP's first bucket is the whole model."""
        if len(self._flat) > size:
            self._flat = self._flat[:0].clone()

    def room(self, size: int) -> Tensor:
        """The first `size` coordinates."""
        if len(self._flat) < size:
            self._flat = torch.empty(size, dtype=self.dtype, device=self.device)
        return self._flat[:size]


class Outbox:
    """Writes directions, times `scale`, into tensors by parameter number."""

    def __init__(self, buffer: FlatBuffer, targets: Mapping[int, Tensor], scale: float = 1) -> None:
        self._buffer, self._targets, self._scale = buffer, targets, scale
        self._places = {i: _contiguous_like(target) for i, target in targets.items()}

    def write(self, layout: Layout, decode: Decode) -> None:
        """Write a layout's direction, where possible without a copy."""
        view = _view(layout, self._places, torch.float32, self._buffer.device)
        if view is not None:
            _scaled(decode(view), self._scale)
            return
        written = decode(self._room(layout))
        if written is not None:
            pieces = [_stretch(self._places[p.param].view(-1), p) for p in layout.pieces]
            copy(pieces, layout.split(_scaled(written, self._scale)))

    def _room(self, layout: Layout) -> Vector | None:
        """Where a direction is to be written: at once where it belongs, if kernels do that."""
        if self._buffer.dtype != torch.float32:
            return None
        room = partial(self._buffer.room, layout.size)
        found = None
        dtypes = (self._places[i].dtype for i in params_of(layout))
        if self._scale == 1 and reads_scattered(self._buffer.device, dtypes):
            found = self._buffer.targets.scattered(layout, self._places, room)
        return room() if found is None else found

    def finish(self) -> None:
        """All directions are written."""
        for i, target in self._targets.items():
            if self._places[i] is not target:
                target.copy_(self._places[i])


def _overlaps(x: Tensor) -> bool:
    """Whether numbers share memory, as in the gradient of a sum."""
    return any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True))


def _stretch(whole: Tensor, piece: Piece) -> Tensor:
    """The place of a piece in its parameter (numel,)."""
    return whole if piece.length == len(whole) else whole[piece.start : piece.start + piece.length]


def _scaled(flat: Tensor | None, scale: float) -> Tensor:
    assert flat is not None, "only what is scattered is written elsewhere"
    return flat if scale == 1 else flat.mul_(scale)


def _contiguous_like(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else torch.empty_like(x, memory_format=torch.contiguous_format)


def _view(
    layout: Layout, tensors: Mapping[int, Tensor | None], dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    """The place of a layout's coordinates, where that is one stretch of memory."""
    first = layout.pieces[0]
    start = first.start - first.offset
    if any(p.param != first.param or p.start - p.offset != start for p in layout.pieces):
        return None
    x = tensors[first.param]
    if x is None or x.dtype != dtype or x.device != device or not x.is_contiguous():
        return None
    return x.detach().view(-1)[start : start + layout.size]
