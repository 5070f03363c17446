"""What a step votes on: true gradients, slice by slice, bounded together."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from gradvote.engines.common.clipping import shortened, squares
from gradvote.engines.common.flat_buffer import FlatBuffer
from gradvote.engines.common.part import evenly_cut
from gradvote.engines.distributed.slices import SLICE, Update
from gradvote.layout import Layout

Factor = Callable[[Sequence[Tensor], float], float]
"""What a gradient is multiplied by, from the `squares` of all its slices and the bound."""


def update_of(
    buffer: FlatBuffer,
    layouts: Sequence[Layout],
    gradients: Mapping[int, Tensor | None],
    scale: float,
    max_norm: float | None,
    factor: Factor,
) -> Update:
    """Gradients without a scaler's `scale`, those of `layouts` together no longer than `max_norm`.

    As they lie in `.grad` where nothing is done to them.
    """

    def update(layout: Layout) -> Tensor:
        flat = buffer.gather(layout, gradients)
        return flat if scale == 1 else flat / scale

    if max_norm is None:
        return update if scale != 1 else (lambda layout: buffer.where_they_are(layout, gradients))
    slices = (own for layout in layouts for own in evenly_cut(layout, SLICE))
    shrink = factor([squares(own, update(own)) for own in slices], max_norm)
    return update if shrink == 1 else (lambda layout: shortened(update(layout), shrink))
