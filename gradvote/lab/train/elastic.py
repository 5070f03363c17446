"""The same run on workers that may die, stall and come back: each is a process of its own, with `gradvote.elastic`.

The first member of a step writes its record. Every worker writes its states as `worker-K.pt`; the first member also
writes `checkpoint.pt`, which holds the run's options.
"""

import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gradvote.engines import elastic
from gradvote.engines.common.signals import end_with_parent
from gradvote.engines.elastic.environment import NUMBER
from gradvote.engines.elastic.launcher import RESTARTS
from gradvote.engines.gradients import worker_seed
from gradvote.lab.streams import steady_streams
from gradvote.lab.train import checkpoint, metrics
from gradvote.lab.train.config import from_json
from gradvote.lab.train.folder import RunFolder
from gradvote.lab.train.observe import Observer, Record
from gradvote.lab.train.own_steps import OwnSteps
from gradvote.lab.train.run import Progress, Run, silent
from gradvote.lab.train.setup import Setup, prepare


@dataclass(frozen=True)
class Kill:
    """Worker `worker` is killed before its vote of step `step`."""

    worker: int
    step: int


@dataclass(frozen=True)
class Stop:
    """Worker `worker` is stopped before its vote of step `step`, for so many seconds."""

    worker: int
    step: int
    seconds: float


@dataclass(frozen=True)
class Job:
    """What every worker is told."""

    config: str
    folder: str
    command: str
    label: str | None
    deadline: float
    resume: bool = False
    kills: tuple[Kill, ...] = ()
    stops: tuple[Stop, ...] = ()

    def to_json(self) -> str:
        """For the workers' processes."""
        return json.dumps(asdict(self))


def job_from(text: str) -> Job:
    """The job that `to_json` wrote."""
    raw = json.loads(text)
    kills, stops = (tuple(kind(**own) for own in raw.pop(key)) for kind, key in ((Kill, "kills"), (Stop, "stops")))
    return Job(**raw, kills=kills, stops=stops)  # type: ignore[arg-type]  # a generator forgets which kind is which


class ElasticObserver(Observer):
    """An `Observer` in one worker's process: it has all data and the shared model, but its own counts only."""

    simulation: elastic.ElasticVote  # type: ignore[assignment]  # the engine between the workers, with other counts

    def round(self, step: int) -> Record:
        norm = metrics.memory_norm(self.setup.protocol.algorithm, self.simulation.state_dict()["worker"], 1)
        return {"ties": None, "memory_norm": norm, "drain": None}

    def abstentions(self) -> Tensor:
        standings = self.simulation.stats().workers
        missed = [standings[k].missed if k in standings else 0 for k in range(self.setup.config.workers)]
        return torch.tensor(missed)

    def counts(self) -> tuple[int, int, int]:
        stats = self.simulation.stats()
        return stats.bytes_sent * max(len(stats.members), 1), 0, stats.steps


class ElasticRun(Run):
    """A run in which this process is one of the workers."""

    engine: elastic.ElasticVote

    def __init__(self, setup: Setup, place: RunFolder, job: Job) -> None:
        self.job = job
        self._own: OwnSteps | None = None
        super().__init__(setup, place, job.command, job.label)

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        if self._own is not None:
            self._own.load_state_dict(state["local"])

    @property
    def own_states(self) -> Path:
        """Where this worker keeps its states."""
        return self.place.path / f"worker-{self.engine.worker}.pt"

    def stop(self) -> None:
        """This worker leaves after its step."""
        self.engine.stop()

    def train(self, progress: Progress = silent) -> None:
        """Vote to the last step; SIGTERM or Ctrl-C ends it after the step in progress, or while it waits for others."""
        vote = self.engine
        with vote if self._own is None else self._own.local:
            self.step = vote.step_number
            if self._is_first():
                self.place.forget_from(self.step)
                self._describe()
            for step in vote.steps(self.config.steps):
                self.step = step
                if self._is_first() and step % self.config.evaluate_every == 0:
                    self._observe(None, progress)
                if self.status != "running":
                    vote.stop()
                    break
                self._suffer(step)
                self._timed(lambda: self._round(None))
                self.step = vote.step_number
                if self.step % self.config.save_every == 0:
                    self._save()
            self._last(progress)

    def _last(self, progress: Progress) -> None:
        if self.status == "running" and self.step < self.config.steps:
            self._end("interrupted", f"stopped by the user at step {self.step}")
        if self._is_first():
            if self.status == "running":
                self._observe(None, progress)
            if self.status == "running":
                self._end("finished")
            self._describe()
        if self.engine.members:  # who was asked to stop before it joined knows nothing worth keeping
            self._save()

    def _is_first(self) -> bool:
        members = self.engine.members
        return bool(members) and self.engine.worker == min(members)

    def _engine(self) -> elastic.ElasticVote:
        options: dict[str, Any] = {
            "deadline": self.job.deadline,
            "seed": self.config.seed,
            "max_norm": self.config.max_norm,
            "faults": self.setup.faults,
            "placement": self.config.placed,
        }
        model, optimizer = self.models[0], self.optimizers[0]
        if self.config.local_steps is None:
            return elastic.attach(model, optimizer, self.setup.protocol.algorithm, **options)
        self._own = OwnSteps(self.setup, model, optimizer, "elastic", **options)
        vote: elastic.ElasticVote = self._own.local.vote
        return vote

    def _models(self) -> list[nn.Module]:
        return [self.setup.model]

    def _observer(self) -> Observer:
        return ElasticObserver(self.setup, self.engine, self.models)  # type: ignore[arg-type]  # see ElasticObserver

    def _round(self, known: tuple[Tensor, Tensor] | None) -> None:
        worker, step = self.engine.worker % self.config.workers, self.step
        optimizer = self.optimizers[0]
        self._set_lr(optimizer)
        if self._own is not None:
            self._own.round(lambda k: self.observer.batches(k)[worker], worker, step)
            return
        x, y = self.observer.batches(step)[worker]
        optimizer.zero_grad(set_to_none=True)
        torch.default_generator.manual_seed(worker_seed(self.config.seed, step, worker))
        cross_entropy(self.models[0](x), y).backward()
        self.engine.step()

    def _suffer(self, step: int) -> None:
        """Die or stall, if it was asked for: once, in this worker's first life."""
        if os.environ.get(RESTARTS, "0") != "0":
            return
        me, process = self.engine.worker, os.getpid()
        if Kill(me, step) in self.job.kills:
            os.kill(process, signal.SIGKILL)
        for stop in self.job.stops:
            if (stop.worker, stop.step) == (me, step):
                wake = f"sleep {stop.seconds:g}; kill -CONT {process}"
                subprocess.Popen(["sh", "-c", wake], start_new_session=True)
                os.kill(process, signal.SIGSTOP)

    def _save(self) -> None:
        checkpoint.save(self._state(), self.own_states)
        if self._is_first():
            checkpoint.save(self._state(), self.place.checkpoint)

    def _state(self) -> dict[str, Any]:
        own = {} if self._own is None else {"local": self._own.state_dict()}
        return {**super()._state(), **own, "round": {}}


def work(job: Job) -> None:
    """Be one worker of the job."""
    config = from_json(job.config)
    run = ElasticRun(prepare(config), RunFolder(Path(job.folder)), job)
    if job.resume and run.own_states.is_file():
        run.resume(checkpoint.load(run.own_states))
    try:
        run.train()
    except elastic.RunEnded as error:
        print(error, file=sys.stderr)
    except elastic.Excluded as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    steady_streams()
    end_with_parent()
    torch.set_num_threads(1)
    if os.environ.get(NUMBER) == "0":  # one of them says that it compiles
        logging.getLogger("gradvote").addHandler(logging.StreamHandler())
        logging.getLogger("gradvote").setLevel(logging.INFO)
    work(job_from(Path(sys.argv[1]).read_text(encoding="utf-8")))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # all is on disk; to take torch apart takes seconds on a busy machine, and the user waits
