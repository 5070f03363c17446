"""What `gradvote launch` runs under attack: it tells who it is, then how far it has come and with which parameters."""

import argparse
import hashlib
import os
import time

import torch
from torch import nn

import gradvote

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=10**6)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--placement", default="replicated")
parser.add_argument("--flip", default="", help="WORKER@STEP: there one weight changes in that worker's memory")
args = parser.parse_args()

torch.set_num_threads(1)
torch.manual_seed(0)
width = args.width
model = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
timeouts = gradvote.elastic.Timeouts(deadline=5.0, grace=0.2, gather=20, timeout=60.0)
vote = gradvote.elastic.attach(
    model, optimizer, gradvote.algorithms.signsgd(), timeouts=timeouts, placement=args.placement
)


def digest() -> str:
    raw = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


with vote:
    mesh = vote._node.mesh
    print(f"JOINED {vote.worker} {os.getpid()} {mesh.port} {mesh.me.ticket} {mesh.recipe}", flush=True)
    for step in vote.steps(args.steps):
        generator = torch.Generator().manual_seed(step * 100 + vote.worker)
        x = torch.randn(16, 32, generator=generator)
        y = torch.randint(0, 4, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        if args.flip == f"{vote.worker}@{step}":
            with torch.no_grad():
                model[0].weight[0, 0] += 1.0
        vote.step()
        time.sleep(0.01)
        if step % 5 == 0:
            print(f"AT {vote.worker} {step}", flush=True)
print(f"END {vote.worker} {digest()} {vote.stats().notes}", flush=True)
