"""What two spawned ranks do with fragments."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import SGD

from gradvote import algorithms, local_steps
from tests.engines.workers import flat


def frozen() -> Tensor:
    """A backbone that each rank has begun from other values, and that nobody trains: the parameters after attaching."""
    torch.manual_seed(dist.get_rank())
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))
    inner = SGD(model[1].parameters(), 0.1)
    options = {"every": 4, "fragments": 2, "outer": lambda params: SGD(params, 0.5), "timeout": 60}
    local_steps.attach_fragments(model, inner, algorithms.sgd(), **options)  # type: ignore[arg-type]  # whatever a test has
    return flat(model)
