"""The real Trainer on two ranks."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import Trainer, TrainingArguments

import gradvote
from gradvote.integrations.transformers import VoteCallback
from tests.integrations.small import (
    BATCH,
    CLIP,
    HALF,
    LR,
    STEPS,
    Net,
    algorithm,
    as_torchrun,
    flat,
    samples,
    with_warnings,
)


class Bad(Trainer):
    """On rank 1 the loss of step 1 is not finite."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        return loss * torch.nan if dist.get_rank() == 1 and self.state.global_step == 1 else loss


def train(folder: Path, resume: str | None = None, kind: type[Trainer] = Trainer, **settings: Any) -> Any:
    own = dict(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=BATCH, use_cpu=True, learning_rate=LR,
        max_grad_norm=CLIP, save_steps=HALF, logging_steps=1, report_to=[], disable_tqdm=True, optim="sgd",
        lr_scheduler_type="linear", gradient_accumulation_steps=2,
    )  # fmt: skip
    vote = VoteCallback(algorithm(), timeout=60)
    trainer = kind(Net(), TrainingArguments(**own | settings), train_dataset=samples(), callbacks=[vote])
    trainer.train(resume_from_checkpoint=resume)
    return trainer, vote


def everything(port: int, place: str) -> dict[str, Any]:
    as_torchrun(port)
    root = Path(place)
    (whole, vote), said = with_warnings(lambda: train(root / "whole"))
    (resumed, _), _ = with_warnings(lambda: train(root / "resumed", str(root / "whole" / f"checkpoint-{HALF}")))
    return {
        "whole": flat(whole.model),
        "resumed": flat(resumed.model),
        "said": said,
        "stats": vote.vote.stats(),
        "logs": whole.state.log_history,
        "files": sorted(p.name for p in (root / "whole" / "checkpoint-3").iterdir()),
    }
