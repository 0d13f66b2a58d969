"""A small network that says of spans of words what they are: hashed word features, a BiLSTM, a span head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

STATE_DROPOUT = 0.2


class SpanTagger(nn.Module):
    """forward: micro-batch -> {"logits": (M, C + 1)} of spans; the last class is "no entity".

    The micro-batch holds features (N, T, F) of words, numbers below `buckets`, 0 = padding; lengths (N,); row, first,
    width (M,): text, first word and number of words of each span; and, where states > 0, states (N, T, states) of the
    words in a frozen encoder (models.word_states). Every text is read apart (batch_first), so a span's logits do not
    depend on what is beside it.
    """

    def __init__(
        self, classes: int, buckets: int, size: int = 48, hidden: int = 48, max_width: int = 5, dropout: float = 0.3,
        states: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.max_width, self.drop = max_width, dropout
        self.features = nn.Embedding(buckets, size, padding_idx=0)
        self.states = nn.Sequential(nn.Dropout(STATE_DROPOUT), nn.Linear(states, size)) if states else None
        self.recurrent = nn.LSTM(size, hidden, batch_first=True, bidirectional=True)
        self.widths = nn.Embedding(max_width + 1, 16)
        self.attention = nn.Linear(size, 1)
        self.head = nn.Sequential(
            nn.Linear(4 * hidden + 16 + size, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, classes + 1)
        )
        nn.init.normal_(self.features.weight, std=0.3)
        with torch.no_grad():
            self.features.weight[0] = 0.0

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        read = self._words(batch["features"])
        if self.states is not None:
            read = read + self.states(batch["states"])
        packed = pack_padded_sequence(read, batch["lengths"].cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True, total_length=read.shape[1])
        row, first, width = batch["row"], batch["first"], batch["width"]
        inside = torch.arange(self.max_width, device=row.device)
        place = (first[:, None] + inside).clamp(max=read.shape[1] - 1)
        own = read[row[:, None], place]
        weight = self.attention(own)[..., 0].masked_fill(inside >= width[:, None], -1e4).softmax(-1)
        pooled = (own * weight[..., None]).sum(1)
        parts = [states[row, first], states[row, first + width - 1], self.widths(width), pooled]
        return {"logits": self.head(torch.cat(parts, dim=-1))}

    def _words(self, features: Tensor) -> Tensor:
        """(N, T, D): the sum of a word's features; in training each is left out at random, so that none is all."""
        if self.training and self.drop:
            features = features * (torch.rand(features.shape, device=features.device) >= self.drop)
        return self.features(features).sum(2)
