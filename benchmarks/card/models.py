"""The two models of the step benchmark, in plain PyTorch: ResNet-50 and a GPT-2 of 124M parameters."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def resnet50() -> nn.Module:
    """25,557,032 parameters. He et al. 2016."""
    layers: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for inner, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(width, inner, stride if block == 0 else 1))
            width = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


class Bottleneck(nn.Module):
    def __init__(self, width: int, inner: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            *_convolution(width, inner, 1), nn.ReLU(inplace=True),
            *_convolution(inner, inner, 3, stride), nn.ReLU(inplace=True),
            *_convolution(inner, 4 * inner, 1),
        )  # fmt: skip
        changed = stride > 1 or width != 4 * inner
        self.past = nn.Sequential(*_convolution(width, 4 * inner, 1, stride)) if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.way(x) + self.past(x))


def _convolution(width: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(width, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)]


class GPT(nn.Module):
    """124M parameters: 12 layers of 768, 12 heads, 50,257 tokens, their embedding shared with the output."""

    def __init__(self, vocabulary: int = 50257, width: int = 768, layers: int = 12, context: int = 1024) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.layers = nn.Sequential(*(Layer(width) for _ in range(layers)))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.out.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        logits: Tensor = self.out(self.norm(self.layers(x)))
        return logits


class Layer(nn.Module):
    def __init__(self, width: int, heads: int = 12) -> None:
        super().__init__()
        self.heads, self.norm, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        x = x + self.project(scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
