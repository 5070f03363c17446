"""Mistakes of users: mypy finds each, by the code beside it, and nothing else. Read by tests/test_types.py."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote.aggregators import Medain  # attr-defined
from gradvote.algorithms import signmu  # attr-defined
from gradvote.faults import Invrt  # attr-defined
from gradvote.lab.data import ByClas  # attr-defined

model = nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
algorithm = gradvote.algorithms.signsgd()
ddp = DistributedDataParallel(model)

# names that do not exist
gradvote.algorithms.nonsense(3)  # attr-defined
gradvote.disributed.Exchange(model.parameters(), algorithm)  # attr-defined
gradvote.ddp.atach(ddp, algorithm)  # attr-defined
gradvote.elastic.Exchange(model.parameters(), algorithm)  # attr-defined
gradvote.suggest_rate(optimizer, algorithm)  # attr-defined

# algorithms
gradvote.algorithms.signum(beta="0.9")  # arg-type
gradvote.algorithms.signum(momentum=0.9)  # call-arg
gradvote.algorithms.signum(0.9, zero="up")  # arg-type
gradvote.algorithms.dropsignsgd(keep=0.3)  # call-arg
gradvote.algorithms.noisy(gradvote.algorithms.signsgd, noise_std=0.01)  # arg-type
gradvote.algorithms.noisy(algorithm, position="before")  # arg-type
gradvote.algorithms.create(algorithm)  # arg-type

# engines
gradvote.ddp.attach(algorithm, ddp)  # arg-type arg-type
gradvote.ddp.attach(ddp, "signum")  # arg-type
gradvote.ddp.attach(ddp, gradvote.algorithms.signum)  # arg-type
gradvote.ddp.attach(ddp, algorithm, optimiser=optimizer)  # call-arg
gradvote.ddp.attach(ddp, algorithm, optimizer)  # call-arg
gradvote.distributed.Exchange(model.parameters(), algorithm, placement="everywhere")  # arg-type
gradvote.distributed.Exchange(algorithm, model.parameters())  # arg-type arg-type
gradvote.distributed.Exchange(model.parameters())  # call-arg
gradvote.distributed.Exchange(model.parameters(), algorithm).stp()  # attr-defined
gradvote.elastic.attach(model, optimizer)  # call-arg
gradvote.elastic.attach(optimizer, model, algorithm)  # arg-type arg-type
gradvote.elastic.attach(model, optimizer, algorithm, placement="central")  # arg-type
gradvote.elastic.attach(model, optimizer, algorithm, min_workers="2")  # arg-type
gradvote.torchft.attach(None, model, optimizer, worker="a")  # arg-type call-arg
gradvote.suggest_lr(algorithm, optimizer)  # arg-type arg-type
rate: str = gradvote.suggest_lr(optimizer, algorithm)  # assignment

# parts
gradvote.faults.Faulty("invert")  # arg-type
gradvote.faults.Rescale(factr=2)  # call-arg
gradvote.lab.data.ByClass(classes="two")  # call-arg
gradvote.aggregators.TrimmedMean("one")  # arg-type
gradvote.codecs.Sign(scale="l3")  # arg-type
gradvote.codecs.chain(gradvote.aggregators.Mean(), gradvote.codecs.Sign())  # arg-type
gradvote.transforms.Ema(mu=0.9)  # call-arg
gradvote.core.Algorithm(gradvote.codecs.Sign(), gradvote.codecs.Sign(), gradvote.codecs.Dense())  # arg-type
gradvote.lab.models.mlp(3, 2)  # arg-type
gradvote.lab.train.Config(algorithm=algorithm)  # arg-type
