"""The same for scripts around transformers: texts, rows to classify, a metric."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import tiny
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset
from transformers import BatchEncoding, BertConfig, GPT2Config, GPT2LMHeadModel, TrainerCallback

GPT = GPT2Config(vocab_size=65, n_positions=64, n_embd=80, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
BERT = BertConfig(
    vocab_size=65,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=256,
    num_labels=65,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


class Text(Dataset[dict[str, Tensor]]):
    """Windows of 64 characters as the Trainer takes them; `backwards` for another language."""

    def __init__(self, count: int, backwards: bool = False) -> None:
        start = torch.randint(1_003_854 - 64, (count,), generator=torch.Generator().manual_seed(tiny.SEED + 1))
        rows = tiny.train_text()[start[:, None] + torch.arange(64)]
        self.tokens = rows.flip(1) if backwards else rows

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


def report_text(model: Any, backwards: bool = False) -> None:
    """Held-out loss of a causal language model, without dropout."""
    model.eval()

    def loss(x: Tensor, _: Tensor) -> Tensor:
        rows = x.flip(1) if backwards else x
        result: Tensor = model(input_ids=rows, labels=rows).loss
        return result

    tiny.report_text(loss, 64)


def next_characters(tokens: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sixteen characters, the last one first, and the one that follows them as the class, from `count` places."""
    start = torch.randint(len(tokens) - 17, (count,), generator=torch.Generator().manual_seed(tiny.SEED + 1))
    rows = tokens[start[:, None] + torch.arange(17)]
    return rows[:, :16].flip(1), rows[:, 16]


def mocked_dataloaders(accelerator: Any, batch_size: int = 16) -> tuple[Any, Any]:
    """Training and held-out rows; the name that Accelerate's examples import for their tests."""

    def collate(rows: list[tuple[Tensor, Tensor]]) -> BatchEncoding:
        return BatchEncoding(
            {"input_ids": torch.stack([r[0] for r in rows]), "labels": torch.stack([r[1] for r in rows])}
        )

    train = TensorDataset(*next_characters(tiny.train_text(), 8_000))
    held_out = TensorDataset(*next_characters(tiny.text()[1_003_854:], 64))
    return (
        DataLoader(train, shuffle=True, collate_fn=collate, batch_size=batch_size),
        DataLoader(held_out, collate_fn=collate, batch_size=32),
    )


def report_classes(model: Any) -> None:
    """Held-out loss over 4,000 rows."""
    model.eval()
    tokens = tiny.text()[1_003_854:]
    rows = tokens[torch.arange(4000)[:, None] * 27 + torch.arange(17)]
    tiny.report_classes(lambda x, y: model(input_ids=x, labels=y).loss, rows[:, :16].flip(1), rows[:, 16])


class Accuracy:
    """What `evaluate.load` would give."""

    def __init__(self) -> None:
        self.right: list[Tensor] = []

    def add_batch(self, predictions: Tensor, references: Tensor) -> None:
        self.right.append((predictions == references).float())

    def compute(self) -> dict[str, float]:
        return {"accuracy": float(torch.cat(self.right).mean())}


BASE = Path(tempfile.gettempdir()) / "gradvote-scripts-base.pt"


def base(steps: int = 250) -> Any:
    """A small language model that knows the text from left to right; trained once, by rank 0, and kept."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT)
    if not BASE.exists() and tiny.FIRST:
        rows = Text(16 * steps)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for step in range(steps):
            optimizer.zero_grad()
            tokens = rows.tokens[16 * step : 16 * step + 16]
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
        torch.save(model.state_dict(), BASE.with_suffix(f".{os.getpid()}"))
        BASE.with_suffix(f".{os.getpid()}").replace(BASE)
    while not BASE.exists():
        time.sleep(0.1)
    model.load_state_dict(torch.load(BASE))
    return model


class Switch(TrainerCallback):
    """Half of the way one adapter is trained, then the other; what the first has become must stay."""

    def __init__(self, model: Any) -> None:
        self.model, self.kept = model, {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == state.max_steps // 2 and not self.kept:
            self.model.set_adapter("second")
            named = self.model.named_parameters()
            self.kept = {n: p.detach().clone() for n, p in named if ".default" in n}

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = dict(self.model.named_parameters())
        tiny.REPORT["first_adapter_moved"] = sum(float((now[n] - p).abs().sum()) for n, p in self.kept.items())
