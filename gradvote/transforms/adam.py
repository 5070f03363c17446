"""Adam's update as what a worker sends: each coordinate by its own size, before signs are taken."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Context, State, Transform
from gradvote.kernels import Betas, Moments


@dataclass(frozen=True)
class Adam(Transform):
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; gives (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε) with this worker's m and v.

    Kingma and Ba 2015, Algorithm 1, without the rate. t counts the steps in which the block was sent: it is kept as the
    averages' own weights 1−βᵗ, which are averages of ones. A block that is not finite, or holds a magnitude of 2⁶⁴ or
    more (`kernels.bounded`), keeps all of it, and abstains. Nothing of v is exchanged.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        for name, value in {"β₁": self.beta1, "β₂": self.beta2}.items():
            if not 0 <= value < 1:
                raise ValueError(f"Adam's {name} must lie in [0, 1); got {value}.")
        if not 0 < self.eps < float("inf"):
            raise ValueError(f"Adam's ε must be positive and finite; got {self.eps}.")

    def init(self, like: Tensor) -> State:
        zeros = torch.zeros_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
        weight = zeros.new_zeros(like.shape[:-1])
        return {"momentum": zeros, "momentum weight": weight, "square": zeros.clone(), "square weight": weight.clone()}

    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]:
        update, new = kernels.adam_step(x, moments_of(state), self.betas)
        return update, state_of(new)

    @property
    def betas(self) -> Betas:
        """What the kernel takes."""
        return Betas(self.beta1, self.beta2, self.eps)


def moments_of(state: State) -> Moments:
    """A state as a kernel takes it."""
    return Moments(state["momentum"], state["square"], state["momentum weight"], state["square weight"])


def state_of(new: Moments) -> State:
    """What a kernel gives, as a state."""
    return {"momentum": new.m, "momentum weight": new.m_weight, "square": new.v, "square weight": new.v_weight}


SAMPLES = (Adam(), Adam(0.5, 0.9, 1e-4))
