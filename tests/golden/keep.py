"""Checkpoints and run folders of version 0.1.0, in the middle of a run; and how each of them goes on."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from gradvote.engines.launch import spawn
from gradvote.lab.train import checkpoint, continued, prepare
from gradvote.lab.train.ranks import RankFolder, RankRun
from tests.golden.cases import SMALL, STEPS, WORKERS, Work, kept, work_of
from tests.golden.engines import COLLECTIVE, elastic_threads, few_objects, torchft_threads
from tests.golden.observe import Book, Digests, bodies_are_seen, merged
from tests.lab.train import small

FOLDER = Path(__file__).with_name("fixtures")
HALF = 2
"""The step before which all was saved."""
PLACES = ("exchange sharded", "ddp sharded")
THREADS: dict[str, Callable[..., list[tuple[Book, Any]]]] = {
    "elastic replicated": lambda works, steps, states: elastic_threads(works, kept(), "replicated", steps, states),
    "elastic sharded": lambda works, steps, states: elastic_threads(works, kept(), "sharded", steps, states),
    "torchft": lambda works, steps, states: torchft_threads(works, kept(), steps, states),
}
MODEL = f"{__name__}:tiny"
RUN: dict[str, Any] = {"model": MODEL, "algorithm": "signum", "workers": WORKERS, "seed": 5, "steps": 10}
"""Votes on signs: the parameters do not depend on the last bits of a machine's matrix products."""
STOPPED = 6
PARAMETERS = "a8d3d4a7efbf6ef3e30f90bccaa0afa554b2e6173e41573b63c3cb3c325396f4"
"""SHA-256 of the parameters of both runs at their end."""


def tiny(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Named by the run folders, so it stays where it is."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))


def path_of(place: str) -> Path:
    return FOLDER / f"{place.replace(' ', '-')}.pt"


def save(place: str, works: Sequence[Work], engines: Sequence[Any]) -> None:
    """One file for all workers: the model, which is alike, and what each engine has saved."""
    torch.save({"model": works[0].model.state_dict(), "engines": list(engines)}, path_of(place))


def loaded(place: str) -> tuple[list[Work], list[Any]]:
    state = torch.load(path_of(place), weights_only=True)
    works = [work_of(i, SMALL) for i in range(WORKERS)]
    for work in works:
        work.model.load_state_dict(state["model"])
    return works, state["engines"]


def save_threads() -> None:
    for place, run in THREADS.items():
        works = [work_of(i, SMALL) for i in range(WORKERS)]
        save(place, works, [state for _, state in run(works, range(HALF), None)])


def went_on_threads(place: str) -> dict[str, list[str]]:
    works, states = loaded(place)
    with few_objects():
        return merged([book.digests() for book, _ in THREADS[place](works, range(HALF, STEPS), states)])


def save_ranks() -> None:
    """On each rank."""
    for place in PLACES:
        engine, placement = place.split()
        work = work_of(dist.get_rank(), SMALL)
        _, state = COLLECTIVE[engine](work, kept(), placement, range(HALF))
        states: list[Any] = [None] * WORKERS
        dist.all_gather_object(states, state)
        if dist.get_rank() == 0:
            save(place, [work], states)
    run = RankRun(prepare(_config("ddp"), small.samples()), RankFolder(FOLDER / "run-ddp"))
    run.open()
    run.train(_stopper(run))


def went_on_ranks(folder: str) -> tuple[dict[str, Digests], str]:
    """What this rank sees of each checkpoint, and the parameters of the run folder, copied to `folder`."""
    found, rank = {}, dist.get_rank()
    with few_objects(), bodies_are_seen():
        for place in PLACES:
            engine, placement = place.split()
            works, states = loaded(place)
            book, _ = COLLECTIVE[engine](works[rank], kept(), placement, range(HALF, STEPS), states[rank])
            found[place] = book.digests()
    place_of_run = RankFolder(Path(folder))
    state = checkpoint.load(place_of_run.checkpoint)
    config = continued(place_of_run, state, {"model": MODEL})
    run = RankRun(prepare(config, small.samples()), place_of_run)
    run.resume(state)
    run.train()
    return found, digest(run)


def digest(run: Any) -> str:
    """Of a run's parameters, after its last step."""
    assert run.step == RUN["steps"]
    return hashlib.sha256(small.parameters(run).numpy().tobytes()).hexdigest()


def save_all() -> None:
    """Write all fixtures anew: only for a version whose files nobody has yet."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    save_threads()
    spawn(save_ranks, WORKERS)
    small.trained(FOLDER / "run", STOPPED, **RUN)


def _config(engine: str) -> Any:
    return small.config(**RUN, engine=engine)


def _stopper(run: RankRun) -> Callable[[int, Any], None]:
    return lambda step, record: run.stop() if step == STOPPED and record is None else None
