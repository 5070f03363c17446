"""What fragments in README and docs take for granted: each gets from here the names that it uses and does not make."""

import os as os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh as init_device_mesh
from torch.distributed.fsdp import fully_shard as fully_shard
from torch.nn.parallel import DistributedDataParallel

import gradvote as gradvote


class Net(nn.Linear):
    """A model."""

    def __init__(self) -> None:
        super().__init__(3, 2)


def batch(worker: int, step: int) -> Tensor:
    """Samples."""
    return torch.ones(4, 3)


class Loss:
    """`loss(model, batch)`, or the loss itself."""

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        return Tensor.square(model(batch)).sum()

    def backward(self) -> None:
        self(model, batch(0, 0)).backward()  # type: ignore[no-untyped-call]  # torch's


class SummaryWriter:
    """TensorBoard's, for what is reported."""

    def __init__(self, folder: str) -> None: ...

    def add_scalar(self, name: str, value: float, step: int) -> None: ...


class wandb:  # noqa: N801  # the module of that name
    """Weights & Biases, for what is reported."""

    @staticmethod
    def log(numbers: dict[str, float], step: int) -> None: ...


model = Net()
algorithm = gradvote.algorithms.signum()
loss = Loss()
loss_fn = nn.MSELoss()
my_own_data = [(torch.ones(4, 3), torch.zeros(4, 2))]
ddp = DistributedDataParallel(model, **gradvote.ddp.OWN_BUFFERS)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
present_optimizer = optimizer
rank = dist.get_rank()
vote = gradvote.distributed.Exchange(model.named_parameters(), algorithm)
saved: dict[str, Any] = {}
manager: Any = None
ALGORITHM = algorithm
ArrayRecord: Any = None
ClientApp: Any = None
grid: Any = None
replica_group = 0
replicas = shards = 1
mesh: Any = None
dcp: Any = None
Trainer: Any = None
args: Any = None
data: Any = None
module: Any = None
loader: Any = None
accelerator: Any = None
