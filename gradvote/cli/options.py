"""The options that `train` and `compare` share, and how they become a `Config`."""

import ast
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from gradvote import algorithms, faults
from gradvote.data import partition_options
from gradvote.errors import unknown
from gradvote.train import Config


def _group(name: str, help: str) -> Parameter:
    return Parameter(group=name, help=help)


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What to train, on what, with whom."""

    data: Annotated[str, _group("Data", "Data set: digits, mnist or cifar10.")] = "digits"
    data_dir: Annotated[Path | None, _group("Data", "Folder of the data set's files (also: GRADVOTE_DATA).")] = None
    partition: Annotated[str, _group("Data", "How samples are split: iid, by-class, dirichlet, unequal.")] = "by-class"
    classes_per_worker: Annotated[int | None, _group("Data", "by-class: classes each worker holds.")] = None
    redundancy: Annotated[int | None, _group("Data", "by-class: workers that hold each class.")] = None
    alpha: Annotated[float | None, _group("Data", "dirichlet: concentration; small is heterogeneous.")] = None
    ratio: Annotated[float | None, _group("Data", "unequal: largest share over smallest.")] = None
    batch_size: Annotated[int | None, _group("Data", "Samples per step and worker; default: all of them.")] = None

    workers: Annotated[int, _group("Training", "Number of workers M.")] = 5
    steps: Annotated[int, _group("Training", "Number of steps.")] = 1000
    lr: Annotated[float | None, _group("Training", "Learning rate; default: the algorithm's.")] = None
    schedule: Annotated[str, _group("Training", "Learning rate over the steps: constant, step, cosine.")] = "constant"
    model: Annotated[str, _group("Training", "mlp, cnn, resnet20, resnet20-nobn, or package.module:factory.")] = "mlp"
    optimizer: Annotated[str, _group("Training", "What applies the decision: sgd, nesterov-decay, adamw.")] = "sgd"
    weight_decay: Annotated[float, _group("Training", "Weight decay λ.")] = 0.0
    weights: Annotated[str, _group("Training", "How workers count: equal, or by samples.")] = "equal"
    seed: Annotated[int, _group("Training", "Seed of everything random.")] = 0

    noise_std: Annotated[str | None, _group("Algorithm", "b of noisy-*: a number, or relative[:factor[:max]].")] = None
    noise: Annotated[str | None, _group("Algorithm", "Noise of noisy-*: gaussian, laplace, uniform, logistic.")] = None
    zero: Annotated[str | None, _group("Algorithm", "Sign of an exact zero: random, positive, abstain.")] = None
    set: Annotated[
        tuple[str, ...], Parameter(group="Algorithm", help="KEY=VALUE: any other option of the algorithm.", negative=())
    ] = ()

    fault: Annotated[
        tuple[str, ...],
        Parameter(group="Faults", help="invert, rescale, random, blind, nan, drop; rescale:factor=-1000.", negative=()),
    ] = ()
    num_faulty: Annotated[float, _group("Faults", "How many workers are faulty; below 1: the share.")] = 1
    fault_place: Annotated[str, _group("Faults", "worker, uplink, downlink, or both (links).")] = "worker"
    fault_redraw: Annotated[bool, _group("Faults", "Draw the faulty ones afresh at each step.")] = False

    engine: Annotated[str, _group("Running", "Where the workers live; see `gradvote list engines`.")] = "simulation"
    mode: Annotated[str, _group("Running", "Gradients of simulated workers: loop, vectorized.")] = "loop"
    threads: Annotated[int | None, _group("Running", "Threads; default: PyTorch's choice.")] = None
    eval_every: Annotated[int | None, _group("Running", "Steps between evaluations.")] = None
    eval_samples: Annotated[int, _group("Running", "Samples used to evaluate, at most.")] = 10000
    checkpoint_every: Annotated[int | None, _group("Running", "Steps between checkpoints.")] = None


DEFAULTS = Options()


def config_of(options: Options, spec: str, strict: bool) -> Config:
    """The `Config` for an algorithm given as NAME or NAME:key=value,... (its options, `lr`).

    Shared options that the algorithm does not have are refused when `strict`, otherwise left out.
    """
    name, own = parse_spec(spec)
    lr = own.pop("lr", options.lr)
    known = algorithms.options(name)
    shared = {"noise_std": options.noise_std, "noise": options.noise, "zero": options.zero}
    chosen = {k: _noise(v) for k, v in shared.items() if v is not None and (strict or k in known)}
    chosen |= {k: v for k, v in map(_assignment, options.set) if strict or k in known}
    return Config(
        algorithm=name,
        options={k: _noise(v) if k == "noise_std" else v for k, v in {**chosen, **own}.items()},
        lr=lr,
        data_dir=None if options.data_dir is None else str(options.data_dir),
        partition_options=_partition_options(options),
        faults=tuple(_fault(spec, options) for spec in options.fault),
        **{key: getattr(options, key) for key in _PLAIN},
    )


_PLAIN = sorted(
    set(inspect.signature(Config).parameters) & set(inspect.signature(Options).parameters) - {"lr", "data_dir"}
)


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """NAME:key=value,key=value -> the name and its options."""
    name, _, rest = spec.partition(":")
    return name, dict(_assignment(part) for part in rest.split(",") if part)


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"'{text}' should be KEY=VALUE, for instance mu=0.9.")
    try:
        return key.replace("-", "_"), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key.replace("-", "_"), value


def _noise(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _partition_options(options: Options) -> dict[str, float]:
    given = {key: getattr(options, key) for key in ("classes_per_worker", "redundancy", "alpha", "ratio")}
    given = {key: value for key, value in given.items() if value is not None}
    valid = partition_options(options.partition)
    for key in given:
        if key not in valid:
            raise unknown(f"option of the partition {options.partition}", key.replace("_", "-"), valid or ["(none)"])
    return given


def _fault(spec: str, options: Options) -> dict[str, Any]:
    name, own = parse_spec(spec)
    faults.fault_class(name)
    if isinstance(own.get("workers"), int):
        own["workers"] = (own["workers"],)
    share = options.num_faulty
    if share < 0 or (share >= 1 and share != int(share)):
        raise ValueError(f"num-faulty must be a whole number, or a share below 1; got {share}.")
    num = int(share) if share >= 1 else round(share * options.workers)
    return {"fault": name, "place": options.fault_place, "num": num, "redraw": options.fault_redraw, **own}
