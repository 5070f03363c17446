"""ResNet-50 for ImageNet (He et al. 2016, Table 1): 25,557,032 parameters with 1000 classes."""

from torch import Tensor, nn
from torch.nn import functional

BLOCKS, WIDTHS, EXPANSION = (3, 4, 6, 3), (64, 128, 256, 512), 4


class ResNet50(nn.Module):
    """Images (N, 3, H, W) to logits (N, num_classes); strides stand in the 3x3 convolutions, as in most code bases."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        blocks, fan_in = [], 64
        for stage, (count, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
            for i in range(count):
                blocks.append(_Bottleneck(fan_in, width, 2 if stage > 0 and i == 0 else 1))
                fan_in = width * EXPANSION
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(fan_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(x))
        logits: Tensor = self.head(features.mean(dim=(-2, -1)))
        return logits


class _Bottleneck(nn.Module):
    """relu(shortcut(x) + branch(x)), a projection where the shape changes."""

    def __init__(self, fan_in: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.branch = nn.Sequential(
            *_conv(fan_in, width, 1, 1), nn.ReLU(), *_conv(width, width, 3, stride), nn.ReLU(), *_conv(width, out, 1, 1)
        )
        self.shortcut = nn.Sequential(*_conv(fan_in, out, 1, stride)) if stride > 1 or fan_in != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.shortcut(x) + self.branch(x))


def _conv(fan_in: int, fan_out: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(fan_in, fan_out, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(fan_out)
