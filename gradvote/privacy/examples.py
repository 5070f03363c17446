"""Privacy of single examples: each one's gradient is bounded alone, and batches are drawn as the account assumes."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gradvote.fitting import check_types
from gradvote.privacy.noise import SecureNormal

Loss = Callable[[Tensor, Tensor], Tensor]


@check_types
def poisson_sample(num_examples: int, rate: float, noise: SecureNormal | None = None) -> NDArray[np.int64]:
    """The numbers of the examples of a batch: each is in it with probability `rate`, on its own; maybe none is."""
    if not 0 < rate <= 1:
        raise ValueError(f"The rate must be in (0, 1]; got {rate}.")
    return np.flatnonzero((noise or SecureNormal()).uniform(num_examples) < rate)


def clipped_sum(
    model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, max_norm: float, at_once: int = 64
) -> dict[str, Tensor]:
    """Σ_j g_j · min(1, C / ‖g_j‖₂) over the examples j of a batch, by parameter's name: Abadi et al. 2016, Algorithm 1.

    `loss` is of one example's output and target, as (1, ...) each. An example whose gradient is not finite counts as
    zero. `at_once` examples are held in memory at a time. Layers that mix the examples of a batch (BatchNorm) cannot be
    bounded so, and torch.func refuses them.

    Raises:
        ValueError: the bound is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive; got {max_norm}.")
    params = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    buffers = dict(model.named_buffers())

    def own_loss(own: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(model, {**own, **buffers}, (x[None],)), y[None])

    each = vmap(grad(own_loss), in_dims=(None, 0, 0), randomness="different")
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    for x, y in zip(inputs.split(at_once), targets.split(at_once), strict=True):
        rows = each(params, x, y) if len(x) else {}
        if rows:
            squares = torch.stack([row.flatten(1).double().square().sum(1) for row in rows.values()]).sum(0)
            factors = (max_norm / squares.sqrt().clamp(min=1e-300)).clamp(max=1.0).where(squares.isfinite(), 0.0)
            for name, row in rows.items():
                total[name] += torch.einsum("j,j...->...", factors.to(row.dtype), row.nan_to_num(0.0, 0.0, 0.0))
    return total
