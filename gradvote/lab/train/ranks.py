"""The same run on real workers: each rank of a torch.distributed group is one, with votes behind its DDP model.

Rank 0 writes the folder. Every rank writes its states beside the checkpoint, as `checkpoint-STEP.rankR.pt`; the
checkpoint names their step and is written after them, so that they are complete whenever it is there.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from gradvote.engines import ddp
from gradvote.engines.distributed.statistics import OWN_BUFFERS
from gradvote.engines.gradients import begin_randomness, trainable, worker_seed
from gradvote.lab.train import checkpoint
from gradvote.lab.train.folder import RunFolder
from gradvote.lab.train.observe import Observer, kept_buffers
from gradvote.lab.train.observe_ranks import RankObserver, gathered, gathering
from gradvote.lab.train.own_steps import OwnSteps
from gradvote.lab.train.run import Progress, Run, silent
from gradvote.lab.train.setup import Setup


class RankFolder(RunFolder):
    """The run's folder, written by rank 0; whoever has started the ranks holds it for them."""

    def check_lock(self) -> None:
        pass

    def hold(self) -> None:
        pass

    def create(self, overwrite: bool = False, engine: str = "") -> None:
        if dist.get_rank() == 0:
            super().create(overwrite, engine)
        dist.barrier()

    def describe(self, about: dict[str, Any]) -> None:
        if dist.get_rank() == 0:
            super().describe(about)

    def append(self, record: dict[str, Any]) -> None:
        if dist.get_rank() == 0:
            super().append(record)

    def forget_from(self, step: int) -> None:
        if dist.get_rank() == 0:
            super().forget_from(step)

    def states(self, step: int) -> Path:
        """Where this rank keeps its states of a step."""
        return self.path / f"checkpoint-{step}.rank{dist.get_rank()}.pt"

    def forget_states(self, but: Path) -> None:
        """Remove this rank's older states."""
        for path in self.path.glob(f"checkpoint-*.rank{dist.get_rank()}.pt"):
            if path != but:
                path.unlink(missing_ok=True)


class RankRun(Run):
    """A run in which this process is the worker of its rank; all ranks call the same methods."""

    place: RankFolder
    observer: RankObserver
    _own: OwnSteps | None

    def __init__(self, setup: Setup, place: RankFolder, command: str = "", label: str | None = None) -> None:
        if dist.get_world_size() != setup.config.workers:
            raise ValueError(
                f"There are {dist.get_world_size()} processes for {setup.config.workers} workers; each worker is one "
                "process. Give as many --workers as there are processes."
            )
        self._asked, self._own = False, None
        self._earlier = lambda: torch.tensor([False])
        super().__init__(setup, place, command, label)

    def stop(self) -> None:
        """All ranks end after the step in which the first of them was asked to; with a delay, after the next one."""
        self._asked = True

    def train(self, progress: Progress = silent) -> None:
        """As `Run.train`; only rank 0 shows progress."""
        super().train(progress if dist.get_rank() == 0 else silent)

    def resume(self, state: dict[str, Any]) -> None:
        own = checkpoint.load(self.place.states(state["step"]))
        super().resume({**own, "config": state["config"]})
        if self._own is not None:
            self._own.load_state_dict(own["local"])
        self.observer.earlier = own["totals"].clone()
        self.observer.totals = self.observer.earlier

    def _engine(self) -> Any:
        options: dict[str, Any] = {
            "placement": self.config.placed,
            "seed": self.config.seed,
            "max_norm": self.config.max_norm,
            "faults": self.setup.faults,
        }
        if self.config.local_steps is not None:
            self._own = OwnSteps(self.setup, self.models[0], self.optimizers[0], "distributed", **options)
            return self._own.local.vote
        return self._behind_ddp(options)

    def _behind_ddp(self, options: dict[str, Any]) -> ddp.DDPVote:
        unused = bool(gathered(torch.tensor([self._has_unused()])).any())
        self._ddp = DistributedDataParallel(self.models[0], find_unused_parameters=unused, **OWN_BUFFERS)
        return ddp.attach(self._ddp, self.setup.protocol.algorithm, optimizer=self.optimizers[0], **options)

    def _has_unused(self) -> bool:
        """Whether the loss of this rank's samples leaves a parameter out, which DDP wants to be told."""
        own, model = self.setup.parts[dist.get_rank()][:8], self.models[0]
        x, y = self.setup.data.train_x[own], self.setup.data.train_y[own]
        with kept_buffers(self.models), torch.random.fork_rng(devices=[]):
            gradients = torch.autograd.grad(cross_entropy(model(x), y), trainable(model), allow_unused=True)
        return any(g is None for g in gradients)

    def _observer(self) -> Observer:
        return RankObserver(self.setup, self.engine, self.models)

    def _gradients(self) -> tuple[Tensor, Tensor] | None:
        return None

    def _round(self, known: tuple[Tensor, Tensor] | None) -> None:
        optimizer = self.optimizers[0]
        self._set_lr(optimizer)
        if self._own is None:
            x, y = self.observer.own_batch(self.step)
            optimizer.zero_grad(set_to_none=True)
            begin_randomness(x.device, worker_seed(self.config.seed, self.step, dist.get_rank()))
            cross_entropy(self._ddp(x), y).backward()
            optimizer.step()
        else:
            self._own.round(self.observer.own_batch, dist.get_rank(), self.step)
        self._stopped = self._anybody_asked()

    def _anybody_asked(self) -> bool:
        """Whether any rank was asked to stop; where nobody waits for a round, nobody waits for this one's answers."""
        asked = gathering(torch.tensor([self._asked]))
        if self.config.delay:
            asked, self._earlier = self._earlier, asked
        return bool(asked().any())

    def _observe(self, known: tuple[Tensor, Tensor] | None, progress: Progress) -> None:
        with self._agreed():
            super()._observe(known, progress)

    def _wait(self) -> None:
        """For a round that is under way: it is time of the run."""
        own = self._own
        if own is not None:
            self._timed(lambda: own.local.vote)

    @contextmanager
    def _agreed(self) -> Iterator[None]:
        """Within, the model is what all agreed on, as it is in the simulation."""
        self._wait()
        with nullcontext() if self._own is None else self._own.local.agreed():
            yield

    def _save(self) -> None:
        self._wait()
        own = {} if self._own is None else {"local": self._own.state_dict()}
        with self._agreed():
            self._write({**self._state(), **own, "totals": self.observer.current_totals()})

    def _write(self, state: dict[str, Any]) -> None:
        checkpoint.save(state, self.place.states(self.step))
        dist.barrier()
        if dist.get_rank() == 0:
            checkpoint.save(state, self.place.checkpoint)
        dist.barrier()
        self.place.forget_states(but=self.place.states(self.step))
