"""The same for scripts around transformers: texts, rows to classify, a metric."""

from typing import Any

import tiny
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset
from transformers import BatchEncoding, BertConfig, GPT2Config

GPT = GPT2Config(vocab_size=65, n_positions=64, n_embd=80, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
BERT = BertConfig(
    vocab_size=65, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256, num_labels=65
)


class Text(Dataset[dict[str, Tensor]]):
    """Windows of 64 characters as the Trainer takes them."""

    def __init__(self, count: int, shift: int = 0) -> None:
        start = torch.randint(1_003_854 - 64, (count,), generator=torch.Generator().manual_seed(tiny.SEED + 1))
        self.tokens = (tiny.train_text()[start[:, None] + torch.arange(64)] + shift) % 65

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


def report_text(model: Any, shift: int = 0) -> None:
    """Held-out loss of a causal language model, without dropout."""
    model.eval()
    tiny.report_text(lambda x, _: model(input_ids=(x + shift) % 65, labels=(x + shift) % 65).loss, 64)


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

    train = TensorDataset(*next_characters(tiny.train_text(), 12_000))
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
