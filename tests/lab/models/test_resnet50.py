"""ResNet-50 has the paper's number of parameters and ImageNet's shapes."""

import torch

from gradvote.lab.models import ResNet50


def test_it_is_the_paper_s() -> None:
    with torch.device("meta"):
        model = ResNet50()
        assert sum(p.numel() for p in model.parameters()) == 25_557_032
        assert model(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)
        assert model.stem(torch.zeros(1, 3, 224, 224)).shape == (1, 64, 56, 56)
        assert model.blocks(torch.zeros(1, 64, 56, 56)).shape == (1, 2048, 7, 7)
