"""MiniLM as a cross-encoder: query and item in one row, a classifier of the grades on the first token's state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from chorus_data import minilm_folder
from goodrate.models.precision import autocast

Score = Callable[[Sequence[tuple[str, str]]], np.ndarray]  # (query, item text) pairs -> probabilities (N, labels)


def train_cross_encoder(
    pairs: Sequence[tuple[str, str, int]], labels: int, seed: int, *, epochs: int, learning_rate: float,
    batch_size: int, max_tokens: int, precision: str = "fp32",
) -> Score:  # fmt: skip
    """Trains by cross-entropy on (query, item text, label position)."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

    from goodrate.models.quiet import no_bars

    no_bars()
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    model = AutoModelForSequenceClassification.from_pretrained(minilm_folder(), num_labels=labels)

    def logits(rows: Sequence[tuple[str, str]]) -> torch.Tensor:
        texts = [query for query, _ in rows], [text for _, text in rows]
        fed = tokenizer(*texts, truncation="only_second", max_length=max_tokens, padding=True, return_tensors="pt")
        with autocast(precision, "cpu"):
            return model(**fed).logits.float()

    order = np.random.default_rng(seed)
    steps = epochs * -(-len(pairs) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for _ in range(epochs):
        shuffled = order.permutation(len(pairs))
        for start in range(0, len(pairs), batch_size):
            part = [pairs[i] for i in shuffled[start : start + batch_size]]
            gold = torch.tensor([label for _, _, label in part])
            torch.nn.functional.cross_entropy(logits([(query, text) for query, text, _ in part]), gold).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()

    def probabilities(asked: Sequence[tuple[str, str]]) -> np.ndarray:
        with torch.no_grad():
            found = [logits(asked[i : i + 64]).softmax(-1) for i in range(0, len(asked), 64)]
        return torch.cat(found).double().numpy()

    return probabilities
