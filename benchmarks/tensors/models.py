"""The shapes of the tensors of known models, and ladders of distinct sizes."""

Shape = tuple[int, ...]


def sizes(distinct: int, tensors: int = 2000, mean: int = 1500) -> list[Shape]:
    """So many vectors of about `mean` coordinates, with so many distinct lengths."""
    return [(mean - distinct // 2 + i % distinct,) for i in range(tensors)]


def resnet50() -> list[Shape]:
    """He et al. 2016: 161 tensors, 25.6M."""
    found, fan_in = [*_conv(64, 3, 7)], 64
    for stage, (count, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
        for i in range(count):
            found += [*_conv(width, fan_in, 1), *_conv(width, width, 3), *_conv(4 * width, width, 1)]
            found += _conv(4 * width, fan_in, 1) if i == 0 else []
            fan_in = 4 * width
        assert stage < 4
    return [*found, (1000, fan_in), (1000,)]


def mobile() -> list[Shape]:
    """EfficientNet-B4 (Tan, Le 2019), inverted bottlenecks with squeeze and excitation: 418 tensors, 19.3M."""
    found, fan_in = [*_conv(48, 3, 3)], 48
    widths, depths, kernels = (24, 32, 56, 112, 160, 272, 448), (2, 4, 4, 6, 6, 8, 2), (3, 3, 5, 3, 5, 5, 3)
    for stage, (out, depth, kernel) in enumerate(zip(widths, depths, kernels, strict=True)):
        for _ in range(depth):
            wide, squeezed = fan_in * (6 if stage else 1), max(fan_in // 4, 1)
            found += _conv(wide, fan_in, 1) if stage else []
            found += [*_conv(wide, 1, kernel), (squeezed, wide, 1, 1), (squeezed,), (wide, squeezed, 1, 1), (wide,)]
            found += _conv(out, wide, 1)
            fan_in = out
    return [*found, *_conv(1792, fan_in, 1), (1000, 1792), (1000,)]


def gpt2() -> list[Shape]:
    """Radford et al. 2019, the smallest: 148 tensors, 124M."""
    d = 768
    block = [(d,), (d,), (d, 3 * d), (3 * d,), (d, d), (d,), (d,), (d,), (d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *12 * block, (d,), (d,)]


def lora() -> list[Shape]:
    """Hu et al. 2022 for a model of 7B, rank 8 on all seven projections of 32 layers: 448 tensors, 20M."""
    d, wide, rank = 4096, 11008, 8
    pairs = [*4 * [(d, d)], (d, wide), (d, wide), (wide, d)]
    return [shape for _ in range(32) for a, b in pairs for shape in ((rank, a), (b, rank))]


def _conv(out: int, fan_in: int, kernel: int) -> list[Shape]:
    """A convolution and its batch norm."""
    return [(out, fan_in, kernel, kernel), (out,), (out,)]


def shapes_of(name: str) -> list[Shape]:
    """The shapes by name: `sizes:NUMBER`, or one of the models."""
    if name.startswith("sizes:"):
        return sizes(int(name.removeprefix("sizes:")))
    return {"resnet50": resnet50, "mobile": mobile, "gpt2": gpt2, "lora": lora}[name]()
