"""MiniLM as a cross-encoder: query and item in one row, a classifier of the grades on the first token's state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from chorus_data import Chorus, minilm_folder


def train_cross_encoder(
    chorus: Chorus, labels: int, seed: int, *, epochs: int, learning_rate: float, batch_size: int, max_tokens: int
) -> Callable[[str], np.ndarray]:
    """Trains on the part "train" by cross-entropy; returns part -> probabilities (N, labels) of its pairs."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

    from goodrate.models.quiet import no_bars

    no_bars()
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    model = AutoModelForSequenceClassification.from_pretrained(minilm_folder(), num_labels=labels)

    def logits(rows: list[tuple[str, str, int]]) -> torch.Tensor:
        pairs = [query for query, _, _ in rows], [chorus.texts[item] for _, item, _ in rows]
        fed = tokenizer(*pairs, truncation="only_second", max_length=max_tokens, padding=True, return_tensors="pt")
        return model(**fed).logits

    rows, order = chorus.rows("train"), np.random.default_rng(seed)
    steps = epochs * -(-len(rows) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for _ in range(epochs):
        shuffled = order.permutation(len(rows))
        for start in range(0, len(rows), batch_size):
            part = [rows[i] for i in shuffled[start : start + batch_size]]
            torch.nn.functional.cross_entropy(logits(part), torch.tensor([label for _, _, label in part])).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()

    def probabilities(part: str) -> np.ndarray:
        asked = chorus.rows(part)
        with torch.no_grad():
            found = [logits(asked[i : i + 64]).softmax(-1) for i in range(0, len(asked), 64)]
        return torch.cat(found).double().numpy()

    return probabilities
