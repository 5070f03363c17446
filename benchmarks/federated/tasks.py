"""What is learned: clients' data, a net of one hidden layer, the clients' own steps, and what the model gets right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gradvote.lab.data import ByClass, load
from gradvote.partitions import Partition

M, H, BATCH = 10, 5, 32
HIDDEN = {"digits": 128, "mnist": 32}
TWO, THREE = ByClass(2, redundancy=2), ByClass(redundancy=3)
Rule = Callable[[Tensor, int], Tensor]
Spoil = Callable[[Tensor], Tensor]
Rate = Callable[[int], float]


@dataclass
class Task:
    """One seed's clients and what is judged on, and the model's shapes."""

    x: Tensor
    y: Tensor
    clients: list[Tensor]
    judge_x: Tensor
    judge_y: Tensor
    hidden: int

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.hidden, self.x.shape[1]), (self.hidden,), (10, self.hidden), (10,)]

    @property
    def holders(self) -> list[tuple[int, ...]]:
        """The clients that hold each class: what a user would declare as fellows."""
        return [tuple(i for i, own in enumerate(self.clients) if bool((self.y[own] == c).any())) for c in range(10)]


cached = lru_cache(load)


def task_of(name: str, seed: int, partition: Partition, tuning: bool) -> Task:
    """The task of a seed; for tuning the last fifth of the training split is judged on, and nobody trains on it."""
    data = cached(name)
    order = torch.randperm(len(data.train_y), generator=torch.Generator().manual_seed(17))[:10_000]
    x, y = data.train_x.flatten(1)[order], data.train_y[order]
    own = len(y) * 4 // 5
    clients = partition(y[:own], M, seed)
    judged = (x[own:], y[own:]) if tuning else (data.test_x.flatten(1), data.test_y)
    return Task(x[:own], y[:own], clients, *judged, HIDDEN[name])


def start(task: Task, seed: int) -> list[Tensor]:
    """The first parameters, as torch.nn.Linear draws them."""
    made, found = torch.Generator().manual_seed(seed), []
    for shape in task.shapes:
        fan = task.x.shape[1] if len(found) < 2 else task.hidden
        found.append((torch.rand(shape, generator=made) * 2 - 1) / fan**0.5)
    return found


def logits(params: Sequence[Tensor], x: Tensor) -> Tensor:
    """Those of one model, or of each client's (M, ...)."""
    w1, b1, w2, b2 = params
    hidden = torch.relu(x @ w1.mT + b1.unsqueeze(-2))
    return hidden @ w2.mT + b2.unsqueeze(-2)


def differences(task: Task, now: Sequence[Tensor], lr: float, number: int, seed: int) -> Tensor:
    """start − end of all clients' own steps (M, d)."""
    own = [p.expand(M, *p.shape).clone().requires_grad_() for p in now]
    made = torch.Generator().manual_seed(100_000 * seed + number)
    sizes = torch.tensor([len(mine) for mine in task.clients])
    places = (torch.rand(H, M, BATCH, generator=made) * sizes[:, None]).long()
    for step in range(H):
        batch = torch.stack([mine[at] for mine, at in zip(task.clients, places[step], strict=True)])
        loss = torch.nn.functional.cross_entropy(
            logits(own, task.x[batch]).transpose(1, 2), task.y[batch], reduction="none"
        )
        for p, g in zip(own, torch.autograd.grad(loss.mean(1).sum(), own), strict=True):
            p.data.sub_(g, alpha=lr)
    pairs = zip(now, own, strict=True)
    return torch.cat([(p - q).detach().flatten(1) for p, q in pairs], 1)


def accuracy(task: Task, params: Sequence[Tensor]) -> float:
    """Of the judged samples, in per cent; a model of NaN is right by chance only."""
    return 100 * float((logits(params, task.judge_x).nan_to_num(0.0).argmax(1) == task.judge_y).float().mean())


def train(
    task: Task, rounds: int, seed: int, local: Rate, rule: Rule, spoil: Spoil, outer: Rate, momentum: float = 0.0
) -> float:
    """Rounds of local steps at the rate `local`, then torch's SGD at the rate `outer` along rule(differences)."""
    params = start(task, seed)
    optimizer = torch.optim.SGD(params, lr=0.0, momentum=momentum)
    for number in range(rounds):
        direction = rule(spoil(differences(task, params, local(number), number, seed)), number)
        for p, own in zip(params, direction.split([p.numel() for p in params]), strict=True):
            p.grad = own.reshape(p.shape)
        optimizer.param_groups[0]["lr"] = outer(number)
        optimizer.step()
    return accuracy(task, params)
