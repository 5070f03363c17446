"""A small language model: a transformer that reads codes of characters from left to right."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Size:
    """`width` must be a multiple of `heads`; parameters: about 12·layers·width², 4.8 million for 256 and 6."""

    vocabulary: int
    context: int = 128
    width: int = 256
    layers: int = 6
    heads: int = 4

    def __post_init__(self) -> None:
        if min(self.vocabulary, self.context, self.width, self.layers, self.heads) < 1 or self.width % self.heads:
            raise ValueError(
                "A transformer needs positive sizes, and a width that is a multiple of the number of heads; "
                f"got {self}."
            )


class Transformer(nn.Module):
    """Logits of the next character at every place: codes (N, T) int64 to (N, vocabulary, T), T ≤ context.

    Blocks with LayerNorm before attention and before the feed-forward net (GPT-2's order), learned positions, no
    dropout. The class axis is the second, as `cross_entropy` with targets (N, T) wants it. Weights start from
    N(0, 0.02²), those that write into the residual stream from N(0, 0.02²/(2·layers)), biases and norms as usual.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.characters = nn.Embedding(size.vocabulary, size.width)
        self.places = nn.Embedding(size.context, size.width)
        self.blocks = nn.Sequential(*(_Block(size) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.vocabulary)
        self.apply(_start)
        for name, p in self.named_parameters():
            if name.endswith("out.weight"):
                nn.init.normal_(p, std=0.02 / (2 * size.layers) ** 0.5)

    def forward(self, codes: Tensor) -> Tensor:
        if codes.shape[-1] > self.size.context:
            raise ValueError(f"The model reads {self.size.context} characters at a time; got {codes.shape[-1]}.")
        x = self.characters(codes) + self.places(torch.arange(codes.shape[-1], device=codes.device))
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits.mT


class _Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention_norm, self.net_norm = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.attention = _Attention(size)
        self.net = _Net(size.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        y: Tensor = x + self.net(self.net_norm(x))
        return y


class _Attention(nn.Module):
    """Every place attends to itself and those before it."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.into = nn.Linear(size.width, 3 * size.width)
        self.out = nn.Linear(size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.into(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(-2))
        return y


class _Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(functional.gelu(self.into(x)))
        return y


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
