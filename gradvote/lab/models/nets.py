"""The models: each public function of `input_shape` and `num_classes` is one, of its name.

No in-place operation and no control flow that depends on data, so all work under
`torch.func.functional_call` and `vmap` with one gradient per worker. The exception is *training* with
BatchNorm (`resnet20`): its running statistics are shared buffers that `vmap` cannot update per worker.
Train it one worker after another, or give the statistics up with
`torch.func.replace_all_batch_norm_modules_`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

BLOCKS_PER_STAGE = 3
WIDTHS = (16, 32, 64)


def mlp(input_shape: Sequence[int], num_classes: int, hidden: Sequence[int] = (128,)) -> nn.Sequential:
    """A fully connected net with ReLU, 128 hidden units by default, for samples of any shape."""
    widths = [math.prod(input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))


def cnn(input_shape: Sequence[int], num_classes: int) -> nn.Sequential:
    """Two 3x3 convolutions of 16 and 32 channels, each halved by max pooling, then one linear layer."""
    channels, height, width = _image_shape("cnn", input_shape)
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * (height // 4) * (width // 4), num_classes)),
    )


def resnet20(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """ResNet-20 for CIFAR with BatchNorm and parameter-free shortcuts (He et al. 2016, section 4.2)."""
    return ResNet20(_image_shape("resnet20", input_shape)[0], num_classes, norm=True)


def resnet20_nobn(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """ResNet-20 without any normalisation, made trainable by a scaled start of its residual branches."""
    return ResNet20(_image_shape("resnet20-nobn", input_shape)[0], num_classes, norm=False)


def _image_shape(model: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(input_shape) != 3 or input_shape[0] < 1 or min(input_shape[1:]) < 4:
        raise ValueError(
            f"The model '{model}' needs images of shape (channels, height, width), at least 4 pixels high "
            f"and wide; the data have samples of shape {tuple(input_shape)}. The model 'mlp' takes any shape."
        )
    return input_shape[0], input_shape[1], input_shape[2]


class ResNet20(nn.Module):
    """A 3x3 convolution, three stages of three residual blocks (16, 32, 64 channels), pixel mean, linear.

    Convolutions start from He et al.'s normal distribution, N(0, 2 / fan_in). Without normalisation
    (`norm=False`) they have biases, and the last convolution of each of the L = 9 branches starts scaled by
    L ** -0.5: each block then multiplies the variance by about 1 + 1/L, at most e in all, and plain SGD
    trains it. Fixup (Zhang et al. 2019) starts these at exactly zero; that is avoided here because a gradient
    of exact zeros has no sign to vote on.
    """

    def __init__(self, channels: int, num_classes: int, norm: bool) -> None:
        super().__init__()
        self.stem = _conv(channels, WIDTHS[0], 1, norm)
        ins = (WIDTHS[0], *WIDTHS[:-1])
        self.blocks = nn.Sequential(
            *(
                _Block(fan_in if block == 0 else width, width, norm)
                for fan_in, width in zip(ins, WIDTHS, strict=True)
                for block in range(BLOCKS_PER_STAGE)
            )
        )
        self.head = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, height, width) images to (N, num_classes) logits."""
        features: Tensor = self.blocks(functional.relu(self.stem(x)))
        logits: Tensor = self.head(features.mean(dim=(-2, -1)))
        return logits


class _Block(nn.Module):
    """relu(shortcut(x) + branch(x)); the shortcut skips pixels and pads channels with zeros (option A)."""

    def __init__(self, fan_in: int, fan_out: int, norm: bool) -> None:
        super().__init__()
        self.stride = fan_out // fan_in
        self.padding = fan_out - fan_in
        last = _conv(fan_out, fan_out, 1, norm)
        if not norm:
            weight = last[0].weight
            assert isinstance(weight, Tensor)
            weight.data *= (len(WIDTHS) * BLOCKS_PER_STAGE) ** -0.5
        self.branch = nn.Sequential(_conv(fan_in, fan_out, self.stride, norm), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[..., :: self.stride, :: self.stride]
        before = self.padding // 2
        padded = functional.pad(shortcut, (0, 0, 0, 0, before, self.padding - before))
        return functional.relu(padded + self.branch(x))


def _conv(fan_in: int, fan_out: int, stride: int, norm: bool) -> nn.Sequential:
    """A 3x3 convolution from He's start, with BatchNorm or, without it, a bias of zeros."""
    conv = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=not norm)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.BatchNorm2d(fan_out)) if norm else nn.Sequential(conv)
