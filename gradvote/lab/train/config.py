"""A run's options: one frozen dataclass, the same for the command line, the run folder and the checkpoint."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradvote.arguments import checked, hints_of
from gradvote.errors import unknown
from gradvote.lab.files import from_json as read_json
from gradvote.lab.train.schedules import check_schedule

ENGINES = {
    "simulation": "M workers in one process, with real bytes between them",
    "ddp": "M processes, here or under torchrun, with votes behind DistributedDataParallel",
    "elastic": "M processes here that may die, stall and come back; see --kill and --stop",
}
MODES = ("loop", "vectorized")
DEVICES = ("cpu", "cuda")
PLACEMENTS = {
    "sharded": "every worker is the server of a part of the blocks; engine elastic: with a buddy that has a copy",
    "central": "engine ddp: rank 0 is the server",
    "replicated": "every worker gets all ballots and decides for itself",
}
PLACED = {"simulation": "central", "ddp": "sharded", "elastic": "replicated"}
OPTIMIZERS = {
    "sgd": "torch.optim.SGD without momentum; weight decay as in signum and Lion",
    "nesterov": "torch.optim.SGD with momentum 0.9 of Nesterov's kind, the outer one of DiLoCo",
    "nesterov-decay": "dist-EF-SGDM's weight decay with a local momentum of its own",
    "adamw": "torch.optim.AdamW on the decision",
}
INNER = {
    "adamw": "torch.optim.AdamW on each worker's own gradients",
    "sgd": "torch.optim.SGD without momentum on each worker's own gradients",
}
"""Optimizers of local steps."""
LARGEST = 3.4e38
"""About the largest float32, in which parameters are updated."""
WEIGHTS = {"equal": "every worker counts the same", "samples": "by number of samples"}


@dataclass(frozen=True)
class Config:
    """What to train, on what, with whom. `None` means: choose what fits.

    `data`, `model` and `schedule` are NAME or NAME:key=value,... with options of their own.
    """

    algorithm: str = "signsgd"
    options: dict[str, Any] = field(default_factory=dict)
    data: str = "digits"
    data_dir: str | None = None
    model: str = "mlp"
    workers: int = 5
    partition: str = "by-class"
    partition_options: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    steps: int = 1000
    lr: float | None = None
    schedule: str = "constant"
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    max_norm: float | None = None
    state_dtype: str | None = None
    local_steps: int | None = None
    delay: int = 0
    inner: str = "adamw"
    inner_lr: float = 1e-3
    weights: str = "equal"
    faults: tuple[dict[str, Any], ...] = ()
    engine: str = "simulation"
    placement: str | None = None
    mode: str = "loop"
    device: str = "cpu"
    seed: int = 0
    eval_every: int | None = None
    eval_samples: int = 10000
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        checked("a run", vars(self), hints_of(Config))
        self._check_plain()
        for kind, name, valid in (
            ("engine", self.engine, ENGINES),
            ("placement", self.placed, PLACEMENTS),
            ("mode", self.mode, MODES),
            ("device", self.device, DEVICES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("inner optimizer", self.inner, INNER),
            ("way to weight workers", self.weights, WEIGHTS),
        ):
            if name not in valid:
                raise unknown(kind, name, valid)
        check_schedule(self.schedule)
        if self.engine == "elastic" and self.placed == "central":
            raise ValueError(
                "The elastic engine has no central server, which could die: choose the placement replicated or sharded."
            )
        if self.engine == "elastic" and self.device != "cpu":
            raise ValueError(
                f"`gradvote train` runs the elastic engine on the CPU only; got the device '{self.device}'. Leave the "
                "device out, or attach gradvote.elastic to a model on the card in a script of your own."
            )
        self._check_local_steps()
        for name in ("steps", "workers", "eval_samples", "batch_size", "eval_every", "checkpoint_every", "local_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}.")
            if value is not None and value >= 2**53:
                raise ValueError(f"{name} must be below 2**53; got a number of {value.bit_length()} bits.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"The seed must be at least 0 and below 2**63; got {self.seed}.")
        for what, rate in (
            ("learning rate", self.lr),
            ("weight decay", self.weight_decay),
            ("inner learning rate", self.inner_lr),
        ):
            if rate is not None and not 0 <= rate <= LARGEST:
                raise ValueError(
                    f"The {what} must be finite and not negative; got {rate}."
                    + (f" A float32 holds at most {LARGEST:g}." if LARGEST < rate < float("inf") else "")
                )
        if self.max_norm is not None and not 0 < self.max_norm <= LARGEST:
            raise ValueError(f"max_norm must be positive and finite, or left out; got {self.max_norm}.")

    def _check_local_steps(self) -> None:
        own = [name for name in ("delay", "inner", "inner_lr") if getattr(self, name) != getattr(Config, name)]
        if self.local_steps is None and own:
            verb, them = ("belongs", "it") if len(own) == 1 else ("belong", "them")
            raise ValueError(
                f"{' and '.join(own)} {verb} to local steps; give local_steps as well, or leave {them} out."
            )
        if self.local_steps is not None and self.mode != "loop":
            raise ValueError(
                f"Workers take local steps one after another, in the mode loop; got the mode '{self.mode}'. Leave it "
                "out."
            )
        if self.local_steps is not None and not 0 <= self.delay < max(self.local_steps, 1):
            raise ValueError(
                f"A round is back before the next one is sent: 0 <= delay < local_steps={self.local_steps}; got "
                f"delay={self.delay}."
            )
        if self.delay and self.engine == "elastic":
            raise ValueError(
                "A delay needs workers that stay, as those of the engines simulation and ddp do: one that joins an "
                "elastic run takes over the state between two rounds, and with a delay there is always a round under "
                "way. Leave the delay out, or choose another engine."
            )

    def _check_plain(self) -> None:
        try:
            self.to_json()
        except TypeError as error:
            raise ValueError(
                "Options must be numbers, texts and lists of them, as a checkpoint keeps them; "
                f"got options={self.options}, partition_options={self.partition_options}, faults={self.faults}."
            ) from error

    @property
    def placed(self) -> str:
        """Where the server is: as chosen, or what is usual for the engine."""
        return self.placement or PLACED.get(self.engine, "sharded")

    @property
    def evaluate_every(self) -> int:
        """Steps between two evaluations: a hundred over the run unless chosen."""
        return self.eval_every or max(1, self.steps // 100)

    @property
    def save_every(self) -> int:
        """Steps between two checkpoints: ten over the run unless chosen."""
        return self.checkpoint_every or max(1, self.steps // 10)

    def to_json(self) -> str:
        """The options as JSON."""
        return json.dumps(vars(self))

    def contradicted(self, chosen: Mapping[str, Any]) -> list[str]:
        """The names of the options in `chosen` that have other values here; of options within options, their own."""
        own, names = json.loads(self.to_json()), []
        for name, value in json.loads(json.dumps(chosen)).items():
            if isinstance(value, dict):
                names += [key for key in value if key not in own[name] or own[name][key] != value[key]]
            elif own[name] != value:
                names.append(name)
        return names


def from_json(text: str) -> Config:
    """The options that `to_json` wrote."""
    raw = read_json(text)
    return Config(**{**raw, "faults": tuple(raw["faults"])})
