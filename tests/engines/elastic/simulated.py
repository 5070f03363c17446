"""The run of the tests' workers in one process."""

import torch

from gradvote import algorithms
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.gradients import local_gradients
from gradvote.engines.simulation import Simulation
from gradvote.faults import Faulty
from tests.engines.elastic.worker import batch, digest, new_model


def simulated(steps: int, num: int, algorithm: str = "dist-ef-sgdm", faults: tuple[Faulty, ...] = ()) -> str:
    """The digest of the parameters after so many steps."""
    model = new_model()
    params = list(model.parameters())
    protocol = protocol_for(params, algorithms.create(algorithm), 0)
    simulation = Simulation(protocol, num, faults)
    optimizer = torch.optim.AdamW(params, 0.01)
    for step in range(steps):
        gradients = torch.zeros(num, protocol.layout.size)
        for i in range(num):
            protocol.layout.flatten(local_gradients(model, *batch(i, step))[1], out=gradients[i])
        for p in params:
            p.grad = torch.zeros_like(p)
        protocol.layout.unflatten(
            simulation.step(gradients, step, 0.01), [p.grad for p in params if p.grad is not None]
        )
        optimizer.step()
    return digest(model)
