"""A run's options: one frozen dataclass, the same for the command line, the run folder and the checkpoint."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gradvote.engines.gradients import MODES
from gradvote.errors import unknown

ENGINES = {"simulation": "M workers in one process, with real bytes between them"}
SCHEDULES = {
    "constant": "the same learning rate always",
    "step": "divided by 2, 10 and 20 after 1/7, 3/7 and 5/7 of the steps, as in Chen et al.'s Figure 3",
    "cosine": "from the start value to zero along a half cosine",
}
OPTIMIZERS = {
    "sgd": "torch.optim.SGD without momentum; weight decay as in signum and Lion",
    "nesterov-decay": "dist-EF-SGDM's weight decay with a local momentum of its own",
    "adamw": "torch.optim.AdamW on the decision",
}
WEIGHTS = {"equal": "every worker counts the same", "samples": "by number of samples"}


@dataclass(frozen=True)
class Config:
    """What to train, on what, with whom. `None` means: choose what fits."""

    algorithm: str = "signsgd"
    options: dict[str, Any] = field(default_factory=dict)
    data: str = "digits"
    data_dir: str | None = None
    model: str = "mlp"
    workers: int = 5
    partition: str = "by-class"
    partition_options: dict[str, float] = field(default_factory=dict)
    batch_size: int | None = None
    steps: int = 1000
    lr: float | None = None
    schedule: str = "constant"
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    weights: str = "equal"
    faults: tuple[dict[str, Any], ...] = ()
    engine: str = "simulation"
    mode: str = "loop"
    seed: int = 0
    eval_every: int | None = None
    eval_samples: int = 10000
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        for kind, name, valid in (
            ("engine", self.engine, ENGINES),
            ("mode", self.mode, MODES),
            ("schedule", self.schedule, SCHEDULES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("way to weight workers", self.weights, WEIGHTS),
        ):
            if name not in valid:
                raise unknown(kind, name, valid)
        for name, least in (("steps", 1), ("workers", 1), ("eval_samples", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}.")
        for name in ("batch_size", "eval_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}.")
        if self.lr is not None and not 0 <= self.lr < float("inf"):
            raise ValueError(f"The learning rate must be finite and not negative; got {self.lr}.")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"The weight decay must be finite and not negative; got {self.weight_decay}.")

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
        return json.dumps(asdict(self))

    def differences(self, other: "Config") -> list[str]:
        """The options set here (not left at their defaults) that `other` has otherwise."""
        default = Config()
        chosen = [f.name for f in fields(self) if getattr(self, f.name) != getattr(default, f.name)]
        return [name for name in chosen if getattr(self, name) != getattr(other, name)]


def from_json(text: str) -> Config:
    """The options that `to_json` wrote."""
    raw = json.loads(text)
    return Config(**{**raw, "faults": tuple(raw["faults"])})
