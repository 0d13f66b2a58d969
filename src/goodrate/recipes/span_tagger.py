"""Training a span tagger on soft labels: a fresh network each time, in seconds on a processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.learning.source import EpochOrder, seed_of
from goodrate.models.span_tagger import SpanTagger
from goodrate.understanding.candidates import Spans
from goodrate.understanding.labels import NOTHING, soft_labels
from goodrate.understanding.tagger import States, TaggerCard, new_network, span_batch, word_features
from goodrate.understanding.words import Words


class TaggerSettings(BaseModel):
    """How to train a tagger."""

    model_config = ConfigDict(extra="forbid")
    updates: int = Field(default=400, gt=0, description="of the first round")
    updates_more: int = Field(default=10, ge=0, description="further updates with every round")
    batch_texts: int = Field(default=32, gt=0)
    learning_rate: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    negatives: float = Field(default=0.7, ge=0, description="unlabelled phrases for each word that count as no entity")
    hardest: float = Field(default=0.6, gt=0, description="of a text's negatives, so many times its words count")


def soft_cross_entropy(outputs: Outputs, batch: MicroBatch) -> Tensor:
    """-sum over classes of soft * log p (M,), 0 for the easier negatives of each text.

    Of the negatives of a text with n words the ceil(hardest * n) with the largest loss count (TALLOR).
    """
    values = -(batch["soft"] * outputs["logits"].log_softmax(-1)).sum(-1)
    return values * hard_enough(values.detach(), batch["negative"], batch["row"], batch["most"][batch["row"]])


def hard_enough(values: Tensor, negative: Tensor, row: Tensor, most: Tensor) -> Tensor:
    """(M,) bool: positives, and of each text's negatives the `most` (M,) with the largest values."""
    order = torch.argsort(values, descending=True, stable=True)
    order = order[torch.argsort(row[order] * 2 + (~negative[order]).long(), stable=True)]  # a text's negatives first
    group = row[order] * 2 + (~negative[order]).long()
    start = torch.searchsorted(group, group)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start
    return ~negative | (rank < most)


TERM = Term("cross_entropy", soft_cross_entropy, mask="mask")


class SpanSource:
    """Updates over the texts that have labelled spans, epoch by epoch, in batches of like length."""

    def __init__(
        self, words: Words, spans: Spans, soft: np.ndarray, used: np.ndarray, settings: TaggerSettings, seed: int,
        states: States | None = None,
    ):  # fmt: skip
        """soft (S, C + 1), used (S,) bool: spans with a label. Raises ValueError when there are none."""
        rows = np.flatnonzero(used)
        self._words, self._spans, self._soft, self._settings = words, spans, soft, settings
        self._states = states
        self._features = word_features(words)
        self._texts = np.unique(spans.text[rows])
        if not len(self._texts):
            raise ValueError("no phrase is labelled, so there is nothing to train a tagger on; check the seeds")
        self._rows = rows
        self._begin = np.searchsorted(spans.text[rows], self._texts)
        self._end = np.searchsorted(spans.text[rows], self._texts, side="right")
        lengths = np.diff(words.begin)[self._texts]
        self._order = EpochOrder(lengths.tolist(), settings.batch_texts, seed)

    def next(self, step: int) -> Update | None:
        """The update with this number; there is no end."""
        places = np.asarray(self._order.rows(step))
        texts = self._texts[places]
        rows = np.concatenate([self._rows[self._begin[p] : self._end[p]] for p in places])
        batch = span_batch(self._words, self._spans, self._features, texts, rows, self._states)
        soft = torch.from_numpy(self._soft[rows])
        lengths = torch.from_numpy(np.diff(self._words.begin)[texts])
        batch |= {"soft": soft, "mask": torch.ones(len(rows), dtype=torch.bool), "negative": soft[:, -1] > 0,
                  "most": torch.ceil(lengths * self._settings.hardest).long()}  # fmt: skip
        return Update([batch], [TERM])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to load: the order is a function of the step."""


def training_labels(
    spans: Spans, label: np.ndarray, classes: int, negatives: int, rng: np.random.Generator, none: np.ndarray,
    free: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:  # fmt: skip
    """Soft labels (S, C + 1), which spans are trained on, and the share of the others that is.

    Besides those of soft_labels, "no entity" are so many spans of those without a label, drawn at random (ours), and
    the phrases `none` (P,) bool that an expert calls no entity, as many as there are labelled spans at most. Only spans
    that are free (S,) bool are used.
    """
    soft, used = soft_labels(spans.first, spans.last, label, classes)
    used &= free
    left = free & ~used
    told = rng.permutation(np.flatnonzero(left & none[spans.phrase]))[: int((label != NOTHING).sum())]
    other = np.flatnonzero(left & ~none[spans.phrase])
    drawn = rng.permutation(other)[:negatives]
    for rows in (told, drawn):
        soft[rows, classes] = 1.0
        used[rows] = True
    return soft, used, len(drawn) / max(len(other), 1)


def trained(
    card: TaggerCard, words: Words, spans: Spans, soft: np.ndarray, used: np.ndarray, settings: TaggerSettings,
    number: int, seed: int, on_update: Callable[[dict[str, Any]], None] | None = None, states: States | None = None,
) -> SpanTagger:  # fmt: skip
    """A fresh network trained on soft labels, the same for the same arguments. number: the round; it adds updates."""
    torch.manual_seed(seed_of(seed, "network", number))
    network = new_network(card)
    source = SpanSource(words, spans, soft, used, settings, seed_of(seed, "order", number), states)
    updates = settings.updates + number * settings.updates_more
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    limits = FitSettings(updates=updates, clip_norm=5.0, precision="fp32", seed=seed_of(seed, "dropout", number))
    fit(network, source, [optimizer], limits, on_update=on_update)
    return network.cpu().eval()
