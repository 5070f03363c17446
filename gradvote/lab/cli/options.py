"""The options that `train` and `compare` share, and how they become a `Config`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token

from gradvote import algorithms, faults
from gradvote.arguments import assignments, checked, hints_of, parse_spec
from gradvote.errors import unknown
from gradvote.lab.data import describe, partition_options
from gradvote.lab.models import describe_model, is_foreign
from gradvote.lab.train import Config

GROUPS = {
    name: Group(name, sort_key=place)
    for place, name in enumerate(("Algorithm", "Data", "Training", "Faults", "Running", "Output"))
}


def option(group: str, help: str, default: object = None, **more: Any) -> Parameter:
    """An option of the command line; None stands for "not given", and the default is that of `Config`."""
    return Parameter(group=GROUPS[group], help=help, show_default=False if default is None else f"{default}", **more)


def whole(type_: object, tokens: Sequence[Token]) -> int:
    """A whole number: 2000, but also 2e3."""
    text = tokens[0].value
    try:
        return int(text) if text.lstrip("+-").isdecimal() else _exact(float(text))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"a whole number is expected, not '{text}'.") from error


def _exact(number: float) -> int:
    if number != int(number):
        raise ValueError
    return int(number)


def number(group: str, help: str, default: object = None) -> Parameter:
    """An option that takes a whole number."""
    return option(group, help, default, converter=whole)


Texts = tuple[str, ...]


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What to train, on what, with whom."""

    noise_std: Annotated[str | None, option("Algorithm", "noisy-*: b, a number or relative[:factor[:max]].", 0.01)] = (
        None
    )
    noise: Annotated[
        str | None,
        option("Algorithm", "noisy-*: one of `gradvote list noises`, also NAME:std=b,position=vote.", "gaussian"),
    ] = None
    zero: Annotated[str | None, option("Algorithm", "Sign of exact zeros: random, positive, abstain.", "random")] = None
    set: Annotated[Texts, option("Algorithm", "KEY=VALUE: any other option of the algorithm.", negative=())] = ()

    data: Annotated[
        str | None, option("Data", "NAME or NAME:key=value,...; see `gradvote list data`.", Config.data)
    ] = None
    data_dir: Annotated[Path | None, option("Data", "Folder of the data set's files, as GRADVOTE_DATA.")] = None
    partition: Annotated[
        str | None,
        option("Data", "The workers' split: NAME or NAME:key=value,...; see `gradvote list`.", Config.partition),
    ] = None
    classes_per_worker: Annotated[int | None, number("Data", "by-class: classes each worker holds.")] = None
    redundancy: Annotated[int | None, number("Data", "by-class: workers that hold each class.", 1)] = None
    alpha: Annotated[float | None, option("Data", "dirichlet: concentration; small is heterogeneous.")] = None
    ratio: Annotated[float | None, option("Data", "unequal: largest share over smallest.", 10)] = None
    batch_size: Annotated[int | None, number("Data", "Samples per step and worker.", "all of them")] = None

    workers: Annotated[int | None, number("Training", "Number of workers M.", Config.workers)] = None
    steps: Annotated[int | None, number("Training", "Number of steps.", Config.steps)] = None
    lr: Annotated[float | None, option("Training", "Learning rate.", "the algorithm's")] = None
    schedule: Annotated[
        str | None, option("Training", "NAME or NAME:key=value,...; see `gradvote list schedules`.", Config.schedule)
    ] = None
    model: Annotated[
        str | None,
        option(
            "Training", "NAME or NAME:key=value,... of `gradvote list models`, or package.module:factory.", Config.model
        ),
    ] = None
    optimizer: Annotated[
        str | None,
        option("Training", "What applies the decision: sgd, nesterov, nesterov-decay, adamw.", Config.optimizer),
    ] = None
    weight_decay: Annotated[float | None, option("Training", "Weight decay λ.", Config.weight_decay)] = None
    max_norm: Annotated[
        float | None, option("Training", "Bound of each worker's gradient norm, before the vote.", "none")
    ] = None
    state_dtype: Annotated[
        str | None, option("Training", "Type of momenta and memories between steps: float32, bfloat16.", "float32")
    ] = None
    local_steps: Annotated[
        int | None, number("Training", "Steps of each worker's own optimizer to a round (--steps are rounds).", "none")
    ] = None
    delay: Annotated[
        int | None,
        number("Training", "With --local-steps: steps that go on while a round travels, below H.", Config.delay),
    ] = None
    inner: Annotated[str | None, option("Training", "With --local-steps: adamw, sgd.", Config.inner)] = None
    inner_lr: Annotated[float | None, option("Training", "With --local-steps: its rate.", Config.inner_lr)] = None
    weights: Annotated[str | None, option("Training", "How workers count: equal, samples.", Config.weights)] = None
    seed: Annotated[int | None, number("Training", "Seed of everything random.", Config.seed)] = None

    fault: Annotated[
        Texts,
        option(
            "Faults",
            "One of `gradvote list faults`, or NAME:key=value,... with its options, num, workers, place, redraw; "
            "may be repeated.",
            negative=(),
        ),
    ] = ()
    num_faulty: Annotated[float | None, option("Faults", "How many workers are faulty; below 1: the share.", 1)] = None
    fault_place: Annotated[
        str | None, option("Faults", "worker (its gradient), uplink, downlink, both (links).", "worker")
    ] = None
    fault_redraw: Annotated[
        bool, option("Faults", "Draw the faulty ones afresh at each step, not once.", negative=())
    ] = False

    engine: Annotated[str | None, option("Running", "See `gradvote list engines`.", Config.engine)] = None
    placement: Annotated[
        str | None,
        option("Running", "See `gradvote list placements`.", "sharded; engine elastic: replicated"),
    ] = None
    mode: Annotated[str | None, option("Running", "Gradients of simulated workers: loop, vectorized.", Config.mode)] = (
        None
    )
    device: Annotated[str | None, option("Running", "Where to compute: cpu, cuda.", Config.device)] = None
    threads: Annotated[int | None, number("Running", "Threads.", "PyTorch's choice")] = None
    eval_every: Annotated[int | None, number("Running", "Steps between evaluations.", "a hundredth of them")] = None
    eval_samples: Annotated[int | None, number("Running", "At most so many samples.", Config.eval_samples)] = None
    checkpoint_every: Annotated[int | None, number("Running", "Steps between checkpoints.", "a tenth of them")] = None


DEFAULTS = Options()
_ELSEWHERE = {"algorithm", "options", "partition_options", "faults", "data_dir", "lr"}
_PLAIN = sorted((hints_of(Config).keys() & hints_of(Options).keys()) - _ELSEWHERE)
_PARTITION = ("classes_per_worker", "redundancy", "alpha", "ratio")
"""Options that can be written as flags of their own, too; those of other partitions are written behind their names."""
_NOISE = {"std": "noise_std", "position": "position"}
"""What can be written behind a noise, and the option of the algorithm that it is."""


def chosen(options: Options, spec: str | None = None, known: Sequence[str] | None = None) -> dict[str, Any]:
    """The options of a `Config` that were given, for an algorithm given as NAME or NAME:key=value,...

    Options of the algorithm that are not among `known` are left out.
    """
    name, own = parse_spec(spec or "")
    found = {key: getattr(options, key) for key in _PLAIN}
    found |= {"lr": own.pop("lr", options.lr), "algorithm": name or None}
    found["data_dir"] = None if options.data_dir is None else str(options.data_dir.expanduser().absolute())
    shared = shared_options(options)
    found["options"] = {k: v for k, v in shared.items() if known is None or k in known} | own
    found["partition"], found["partition_options"] = _partition(options)
    found["faults"] = _faults(options)
    return {key: value for key, value in found.items() if value not in (None, {}, ())}


def shared_options(options: Options) -> dict[str, Any]:
    """The options given for whatever algorithm has them."""
    noise, own = parse_spec(options.noise or "")
    for key in own:
        if key not in _NOISE:
            raise unknown(f"option of the noise {noise}", key, _NOISE)
    named = {"noise_std": _noise(options.noise_std), "noise": noise or None, "zero": options.zero}
    given = {k: v for k, v in named.items() if v is not None} | {_NOISE[k]: v for k, v in own.items()}
    return given | assignments(options.set)


def configs_of(options: Options, specs: Sequence[str]) -> list[Config]:
    """A `Config` for each algorithm; an option that it does not have is left out where another one has it.

    Raises:
        ValueError: an option that none of the algorithms has, or a wrong value.
    """
    known = [algorithms.option_names(parse_spec(spec)[0]) for spec in specs]
    for spec, names in zip(specs, known, strict=True):
        check_known(*parse_spec(spec), names)
    everything = sorted({key for own in known for key in own})
    for key in shared_options(options):
        if key not in everything:
            raise unknown(f"option of {' or '.join(parse_spec(spec)[0] for spec in specs)}", key, everything)
    configs = [Config(**chosen(options, spec, own)) for spec, own in zip(specs, known, strict=True)]
    for config in configs:
        describe(config.data)  # raises for a name that does not exist, as the next one does
        if not is_foreign(config.model):
            describe_model(config.model)
    return configs


def check_known(name: str, given: dict[str, Any], known: list[str]) -> None:
    """The names of an algorithm's own options, before anything heavy is imported for their values."""
    for key in given:
        if key not in ("lr", *known):
            raise unknown(f"option of {name}", key, known)


def _noise(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _partition(options: Options) -> tuple[str | None, dict[str, Any]]:
    """The name, if one was given, and the options: flags, and what stands behind the name."""
    name, own = parse_spec(options.partition or "")
    of, flags = name or Config.partition, {k: v for k in _PARTITION if (v := getattr(options, k)) is not None}
    valid = partition_options(of)
    for key in flags:
        if key not in valid:
            has = [f"--{k.replace('_', '-')}" for k in valid if k in _PARTITION]
            flag = f"--{key.replace('_', '-')}"
            raise ValueError(f"The partition '{of}' has no {flag}; it has {' and '.join(has) or 'no options'}.")
    for key in own:
        if not valid:
            raise ValueError(f"The partition {of} takes no options; leave out '{key}'.")
        if key not in valid:
            raise unknown(f"option of the partition {of}", key, valid)
    return name or None, flags | own


def _faults(options: Options) -> tuple[dict[str, Any], ...]:
    placing = {"num_faulty": options.num_faulty, "fault_place": options.fault_place}
    if not options.fault and (options.fault_redraw or any(value is not None for value in placing.values())):
        raise ValueError("--num-faulty, --fault-place and --fault-redraw say where faults are; name one with --fault.")
    return tuple(_fault(spec, options) for spec in options.fault)


def _fault(spec: str, options: Options) -> dict[str, Any]:
    name, own = parse_spec(spec)
    known = dict.fromkeys(faults.option_names(name), Any)
    if isinstance(own.get("workers"), int):
        own["workers"] = (own["workers"],)
    shared = {"place": options.fault_place or "worker", "redraw": options.fault_redraw, "num": _num_faulty(options)}
    placing = {key: value for key, value in own.items() if key in shared}
    checked(f"the fault {name}", {k: v for k, v in own.items() if k not in (*shared, "workers")}, known)
    if placing:
        checked(f"the fault {name}", placing, hints_of(faults.Faulty))
    return {"fault": name, **shared, **own}


def _num_faulty(options: Options) -> int:
    given, workers = options.num_faulty, options.workers or Config.workers
    if given is None:
        return 1
    if not 0 <= given < math.inf or (given >= 1 and given != int(given)):
        raise ValueError(f"--num-faulty must be a whole number, or a share below 1; got {given}.")
    num = int(given) if given >= 1 else round(given * workers)
    if given and not num:
        raise ValueError(f"A share of {given} of {workers} workers is none of them; give --num-faulty a whole number.")
    return num
