"""What the frozen hashes are of: every algorithm and some variants, on prepared gradients of odd shapes.

Gradients are drawn by Philox and scaled by powers of two, so they are exact float32 numbers; there is no matrix product
and no libm anywhere, and the optimizer rounds its product and its difference one after the other. So every CPU gives
the same bits, and so does, later, a GPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradvote import algorithms, kernels
from gradvote.core import Algorithm, Context
from gradvote.rng import Stream, draw
from gradvote.rounding import with_state_dtype
from gradvote.transforms import Relative

WORKERS, STEPS, SEED = 3, 4, 11
SHAPES: tuple[tuple[int, ...], ...] = ((1,), (7,), (63,), (64,), (65,), (5, 33), (4, 64), (16385,))
"""One coordinate, less than a word, a word, more than one; rows that are no words, rows that are; a block and one."""
SMALL: tuple[tuple[int, ...], ...] = ((65,), (3, 33))
"""For checkpoints that are kept."""
RATES = (0.1, 0.1, 0.06, 0.06)
VARIANTS: dict[str, Callable[[], Algorithm]] = {
    "signsgd abstain": lambda: algorithms.signsgd(zero="abstain"),
    "signsgd positive": lambda: algorithms.signsgd(zero="positive"),
    "signsgd not still": lambda: algorithms.signsgd(still=False),
    "signsgd weights": lambda: algorithms.signsgd(weights=(1.0, 2.5, 1.0)),
    "signsgd blocks of 100": lambda: replace(algorithms.signsgd(), block_size=100),
    "signum blocks of 64": lambda: replace(algorithms.signum(), block_size=64),
    "lion not still": lambda: algorithms.lion(still=False),
    "noisy-signsgd": lambda: algorithms.create("noisy-signsgd"),
    "noisy-mediansgd laplace": lambda: algorithms.create("noisy-mediansgd", noise="laplace"),
    "noisy-signum at the vote": lambda: algorithms.create("noisy-signum", noise="logistic", position="vote"),
    "noisy-dist-ef-sgdm": lambda: algorithms.create("noisy-dist-ef-sgdm", position="vote"),
    "relative noise": lambda: algorithms.noisy(algorithms.signsgd(), Relative(0.1), "uniform"),
    "dist-ef-sgdm blocks of 128": lambda: replace(algorithms.dist_ef_sgdm(), block_size=128),
    "dropsignsgd granularity 64": lambda: algorithms.dropsignsgd(granularity=64),
    "dropsignsgd track_lr abstain": lambda: algorithms.dropsignsgd(track_lr=True, zero="abstain"),
    "dropsignsgd states in bfloat16": lambda: with_state_dtype(algorithms.dropsignsgd(), torch.bfloat16),
    "dist-ef-adam states in bfloat16": lambda: with_state_dtype(algorithms.dist_ef_adam(), torch.bfloat16),
    "flexcompress granularity 64": lambda: algorithms.flexcompress(granularity=64),
    "sgd weights bfloat16": lambda: algorithms.sgd(weights=(1.0, 2.0, 0.5), dtype="bfloat16"),
}

SOME = (
    "signsgd abstain", "signsgd blocks of 100", "relative noise", "noisy-dist-ef-sgdm", "dropsignsgd granularity 64",
    "dropsignsgd states in bfloat16",
)  # fmt: skip
"""Variants whose payloads or states have another form: they go through every engine in one placement, too."""


def all_cases() -> dict[str, Algorithm]:
    """The catalogue, found by discovery, and the variants."""
    plain = {name: algorithms.create(name) for name in algorithms.names()}
    return plain | {name: make() for name, make in VARIANTS.items()}


KEPT = "dist-ef-sgdm, as in the checkpoints"


def kept() -> Algorithm:
    """With momentum, and memories on both sides."""
    return algorithms.dist_ef_sgdm()


def cases_on(engine: str, placement: str) -> dict[str, Algorithm]:
    """What a real engine runs: the whole catalogue everywhere, and some variants where the server is in shards."""
    cases, variants = all_cases(), SOME if placement == "sharded" and engine != "ddp" else ()
    return {name: own for name, own in cases.items() if name not in VARIANTS or name in variants}


class Parameters(nn.Module):
    """Tensors that are trained; its loss has the gradients that it is given."""

    def __init__(self, shapes: Sequence[tuple[int, ...]] = SHAPES) -> None:
        super().__init__()
        for i, shape in enumerate(shapes):
            self.register_parameter(f"p{i}", nn.Parameter(_drawn(99, 99, i, shape).clone()))

    def forward(self, gradients: Sequence[Tensor | None]) -> Tensor:
        pairs = zip(self.parameters(), gradients, strict=True)
        return torch.stack([(p * g).sum() for p, g in pairs if g is not None]).sum()


class PlainSGD(torch.optim.Optimizer):
    """x ← x − (η·g), rounded twice; torch's own may fuse both into one rounding, as the machine has it."""

    def __init__(self, model: nn.Module) -> None:
        params = list(model.parameters())
        super().__init__([{"params": params[::2], "lr": 1.0}, {"params": params[1::2], "lr": 1.0}], {})

    def rates(self, step: int) -> None:
        """The second group has half the rate of the first one."""
        for group, share in zip(self.param_groups, (1.0, 0.5), strict=True):
            group["lr"] = RATES[step % len(RATES)] * share

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad * group["lr"])


@dataclass(frozen=True)
class Work:
    """What a worker has: the model, its optimizer, and its gradients in every step."""

    model: Parameters
    optimizer: PlainSGD
    worker: int

    def gradients(self, step: int) -> list[Tensor | None]:
        """And the step's learning rates in the optimizer."""
        self.optimizer.rates(step)
        self.optimizer.zero_grad()
        return [gradient(self.worker, step, i, tuple(p.shape)) for i, p in enumerate(self.model.parameters())]

    def set_gradients(self, step: int) -> None:
        """As a backward pass leaves them."""
        for p, own in zip(self.model.parameters(), self.gradients(step), strict=True):
            p.grad = own


def work_of(worker: int, shapes: Sequence[tuple[int, ...]] = SHAPES) -> Work:
    model = Parameters(shapes)
    return Work(model, PlainSGD(model), worker)


def gradient(worker: int, step: int, index: int, shape: tuple[int, ...]) -> Tensor | None:
    """Workers disagree; units and rows are zero at times, a block is not finite once, and a tensor has none."""
    if (step == 2 and index == 2) or (step == 3 and index == 1 and worker == 1):
        return None
    own = _drawn(worker, step, index, shape).clone()
    if step == 1 and len(shape) > 1:
        own[1] = 0.0
    if step == 2 and own.numel() >= 64 and len(shape) == 1:
        own[:64] = 0.0
    if step == 1 and index == 0 and worker == 2:
        own[0] = torch.nan
    return own


@cache
def _drawn(worker: int, step: int, index: int, shape: tuple[int, ...]) -> Tensor:
    """k·2^(−23−e) for whole numbers −2²³ ≤ k < 2²³ and 0 ≤ e < 8."""
    ctx = Context(SEED, step, torch.tensor([index]), worker)
    words = kernels.random_words(draw(ctx, Stream.SAMPLING), torch.Size(shape).numel())[0]
    whole = ((words & 0xFFFFFF) - 2**23).float()
    return (whole / 2**23 / (1 << ((words >> 24) & 7)).float()).reshape(shape)
