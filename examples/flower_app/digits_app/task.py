"""What server and clients share: the model, the data, and the algorithm."""

import torch
from torch import Tensor, nn

from gradvote.algorithms import noisy, signsgd
from gradvote.lab.data import ByClass, Data, load

ALGORITHM = noisy(signsgd(), noise_std=0.01)
"""Server and clients give the same algorithm: they compare it in words."""


def make_model() -> nn.Module:
    """A small net, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def data_of(partition: int, num_partitions: int) -> tuple[Tensor, Tensor]:
    """The samples of one client, of two classes each where there are ten clients."""
    data: Data = load("digits")
    split = ByClass(2, redundancy=2) if num_partitions == 10 else ByClass(redundancy=num_partitions)
    own = split(data.train_y, num_partitions, seed=0)[partition]
    return data.train_x[own], data.train_y[own]
