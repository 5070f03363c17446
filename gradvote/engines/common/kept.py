"""A direction that was set aside, at a bit per coordinate where its values allow it."""

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.staging import asked


class Kept:
    """A direction, packed where its values are ±s for one s (votes, scaled signs), and else as it was.

    Without `copy` its tensor is kept itself, for those that nobody writes to any more.
    """

    def __init__(self, direction: Tensor, copy: bool = True) -> None:
        self._dense: Tensor | None = None
        self._shape, flat = direction.shape, direction.detach().reshape(1, -1)
        if flat.dtype == torch.float32 and flat.numel() and asked((flat.abs() == flat[0, 0].abs()).all()):
            self._scale, self._bits = flat[:, 0].abs(), kernels.pack_signs(flat, False)
        else:
            self._dense = direction.detach().clone() if copy else direction.detach()

    @property
    def packed(self) -> bool:
        """Whether only bits are kept."""
        return self._dense is None

    def add_to(self, target: Tensor) -> None:
        """Add it to `target`, of its own shape."""
        if self._dense is not None:
            target.add_(self._dense)
        else:
            target.add_(kernels.unpack_signs(self._bits, self._shape.numel(), self._scale).view(self._shape))
