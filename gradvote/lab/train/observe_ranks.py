"""Looking at a run of real workers from each of them: what one rank knows is gathered by all."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradvote.engines.ddp import DDPVote
from gradvote.engines.distributed.states import owners_of, states_by_size
from gradvote.engines.distributed.statistics import average_statistics
from gradvote.engines.gradients import begin_randomness, local_gradients, worker_seed
from gradvote.lab.train.metrics import memory_norm
from gradvote.lab.train.observe import Local, Observer, Record, kept_buffers


def gathering(row: Tensor) -> Callable[[], Tensor]:
    """Begin to gather every rank's row (k,); what is given back waits for it, and gives (M, k) on the CPU."""
    row = row.cpu().contiguous()
    rows = [torch.empty_like(row) for _ in range(dist.get_world_size())]
    work = dist.all_gather(rows, row, async_op=True)

    def wait() -> Tensor:
        work.wait()
        return torch.stack(rows)

    return wait


def gathered(row: Tensor) -> Tensor:
    """Every rank's row (k,) as (M, k), on the CPU."""
    return gathering(row)()


@dataclass
class RankObserver(Observer):
    """An `Observer` on each rank; `totals` are bytes up, bytes down, steps and abstentions by worker, of all ranks."""

    simulation: DDPVote  # type: ignore[assignment]  # the engine between the workers, with other counts
    earlier: Tensor = field(init=False)
    totals: Tensor = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.earlier = torch.zeros(3 + self.setup.config.workers, dtype=torch.int64)
        self.totals = self.earlier

    def own_batch(self, step: int) -> tuple[Tensor, Tensor]:
        """What this rank's worker uses in this step."""
        if self.is_full:
            return self.whole[dist.get_rank()]
        own = self.setup.batches[dist.get_rank()].at(step)
        return self.setup.data.train_x[own], self.setup.data.train_y[own]

    def gradients(self, local: Local, step: int) -> tuple[Tensor, Tensor]:
        layout, rank = self.setup.protocol.layout, dist.get_rank()
        x, y = local[rank]
        begin_randomness(x.device, worker_seed(self.setup.config.seed, step, rank))
        loss, own = local_gradients(self.models[0], x, y)
        flat = layout.flatten(own, out=torch.zeros(layout.size))
        return gathered(loss.reshape(1))[:, 0], gathered(flat)

    def look(self, step: int, seconds: float, known: tuple[Tensor, Tensor] | None) -> Record:
        self.totals = self.current_totals()
        with kept_buffers(self.models):
            average_statistics(self.models[0])
            return super().look(step, seconds, known)

    def round(self, step: int) -> Record:
        stats = self.simulation.all_stats()
        norm = self._memory_norm()
        norms = gathered(torch.tensor([norm or 0.0]))
        ties = stats[0].ties if self._replicated else sum(s.ties for s in stats)
        return {
            "ties": ties if hasattr(self.setup.protocol.algorithm.aggregate, "tie") else None,
            "memory_norm": None if norm is None else float(norms.square().mean().sqrt()),
            "drain": None,
        }

    def abstentions(self) -> Tensor:
        return self.totals[3:]

    def counts(self) -> tuple[int, int, int]:
        up, down, steps = self.totals[:3].tolist()
        return up, down, steps

    def current_totals(self) -> Tensor:
        """The totals now; all ranks must ask."""
        stats = self.simulation.all_stats()
        abstained = torch.tensor([s.abstentions for s in stats])
        row = [sum(s.sent_up for s in stats), sum(s.sent_down for s in stats), stats[0].steps]
        now = torch.cat((torch.tensor(row), abstained[0] if self._replicated else abstained.sum(0)))
        return self.earlier + now

    def _memory_norm(self) -> float | None:
        """That of this rank's worker."""
        saved, algorithm = self.simulation.state_dict(), self.setup.protocol.algorithm
        worker, sizes = saved["worker"], saved["block_sizes"].tolist()
        states = states_by_size(algorithm.up, worker, sizes, owners_of(worker))
        return memory_norm(algorithm, [state for _, state in states], 1)

    @property
    def _replicated(self) -> bool:
        return self.setup.config.placed == "replicated"

    def _accuracies(self) -> Record:
        own = super()._accuracies()
        mean = gathered(torch.tensor([*own.values()], dtype=torch.float64)).mean(0)
        return dict(zip(own, mean.tolist(), strict=True))

    def _drift(self) -> float:
        flat = gathered(nn.utils.parameters_to_vector(self.models[0].parameters()).detach())
        return float((flat - flat[0]).norm(dim=1).max())
