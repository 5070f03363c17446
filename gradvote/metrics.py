"""`stats()` of any engine as plain numbers, for Weights & Biases, TensorBoard, Prometheus or a log of one's own.

report = gradvote.metrics.reporter(SummaryWriter("runs/a"))  # or wandb, or Path("gradvote.prom"), or a function
...
report(vote.stats())
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

PREFIX = "gradvote"
Numbers = dict[str, float]
Found = tuple[str, str, float]
"""The name of a number, whose it is (of a worker or rank; or of nobody in particular), its value."""


def numbers(stats: object, prefix: str = PREFIX) -> Numbers:
    """The numbers of `stats()` by name: `gradvote/bytes_sent`, `gradvote/abstentions/3`, `gradvote/workers/3/missed`.

    Taken from any engine: all fields and properties of its Stats that are numbers, or hold numbers of each worker.
    Of `members` and `notes`, how many there are. What is not finite is left out.

    Raises:
        ValueError: this is not what `stats()` gives.
    """
    return {"/".join(filter(None, (prefix, *_place(name, whose)))): value for name, whose, value in _found(stats)}


def prometheus(stats: object, prefix: str = PREFIX, **labels: str) -> str:
    """The same as gauges in Prometheus' text format; numbers of workers have the label `of`, and all have `labels`."""
    lines: dict[str, list[str]] = {}
    for name, whose, value in _found(stats):
        metric = re.sub(r"[^a-zA-Z0-9_]", "_", f"{prefix}_{name}")
        own = {**labels, "of": whose} if whose else labels
        text = ",".join(f'{key}="{_escaped(label)}"' for key, label in own.items())
        known = lines.setdefault(metric, [f"# TYPE {metric} gauge"])
        known.append(f"{metric}{{{text}}} {value!r}" if text else f"{metric} {value!r}")
    return "".join(line + "\n" for group in lines.values() for line in group)


def reporter(sink: Any, prefix: str = PREFIX, **labels: str) -> Callable[[object], None]:
    """A callback that hands `stats()` to a sink, with the step they hold.

    `sink`: a TensorBoard `SummaryWriter` (has `add_scalar`), `wandb` or a run of it (has `log`), a path that
    Prometheus' node exporter reads (its textfile collector; written whole or not at all), or a function of
    (step, numbers). `labels` are for Prometheus.

    Raises:
        ValueError: the sink is none of these, or a path in a folder that is not there.
    """
    if isinstance(sink, str | os.PathLike):
        path = Path(sink)
        if not path.parent.is_dir():  # else the first report, many steps later, would be what fails
            raise ValueError(f"There is no folder {path.parent} to write {path.name} to. Make it first.")
        return lambda stats: _write(path, prometheus(stats, prefix, **labels))
    if callable(getattr(sink, "add_scalar", None)):
        return lambda stats: _to_board(sink, step_of(stats), numbers(stats, prefix))
    if callable(getattr(sink, "log", None)):
        return lambda stats: sink.log(numbers(stats, prefix), step=step_of(stats))
    if callable(sink):
        return lambda stats: sink(step_of(stats), numbers(stats, prefix))
    raise ValueError(
        f"reporter needs a SummaryWriter, wandb, a path for Prometheus or a function of (step, numbers); got {sink!r}."
    )


def step_of(stats: object) -> int:
    """The step that an engine is about to take, or how many it has taken since its start."""
    return int(getattr(stats, "step", getattr(stats, "steps", 0)))


def _found(stats: object) -> Iterator[Found]:
    if not is_dataclass(stats) or isinstance(stats, type):
        raise ValueError(f"Give what an engine's stats() returned; got {type(stats).__name__}.")
    names = [f.name for f in fields(stats)]
    names += [name for name, own in vars(type(stats)).items() if isinstance(own, property)]
    for name in names:
        if not name.startswith("_"):
            yield from _numbers_in(name, getattr(stats, name))


def _numbers_in(name: str, value: Any) -> Iterator[Found]:
    if isinstance(value, Tensor):
        value = value.tolist()
    if name in ("members", "notes"):
        yield name, "", float(len(value))
    elif isinstance(value, bool | int | float):
        if math.isfinite(value):
            yield name, "", float(value)
    elif isinstance(value, Mapping):
        for whose, own in value.items():
            inner = _found(own) if is_dataclass(own) else _numbers_in("", own)
            yield from ((f"{name}_{key}".strip("_"), str(whose), number) for key, _, number in inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for whose, own in enumerate(value):
            yield from ((name, str(whose), number) for _, _, number in _numbers_in("", own))


def _place(name: str, whose: str) -> tuple[str, ...]:
    """`workers_missed` of 3 is `workers/3/missed`, `abstentions` of 3 is `abstentions/3`."""
    first, _, rest = name.partition("_")
    return (first, whose, rest) if whose and first == "workers" else (name, whose)


def _to_board(board: Any, step: int, values: Numbers) -> None:
    for name, value in values.items():
        board.add_scalar(name, value, step)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
