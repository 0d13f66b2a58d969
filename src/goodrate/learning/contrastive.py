"""In-batch contrastive learning of a two-tower encoder: the source of batches and the model part that scores them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goodrate.learning.hard_negatives import HardNegatives
from goodrate.learning.losses import info_nce
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data, seed_of
from goodrate.models.encoder import Encoder

Tokenize = Callable[[Sequence[str], str], dict[str, Tensor]]  # (texts, "query" or "item") -> padded batch


@dataclass(frozen=True)
class Pair:
    """A query and an item that answers it, and how much the pair counts."""

    query: str
    item_id: str
    weight: float = 1.0


class TwoTower(nn.Module):
    """forward: micro-batch -> {"scores": (Q, C)}, cosines of Q queries and C candidates under one shared encoder.

    dimensions: for each d of them also "scores@d", the cosines of the vectors' first d floats.
    """

    def __init__(self, encoder: Encoder, dimensions: Sequence[int] = ()) -> None:
        super().__init__()
        self.network = encoder.network  # registers the weights; the encoder reads the same module
        self._embed, self._dimensions = encoder.embed_tokens, dimensions

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        queries, candidates = self._embed(batch["queries"]), self._embed(batch["candidates"])
        cut = {
            f"scores@{d}": F.normalize(queries[:, :d], dim=-1) @ F.normalize(candidates[:, :d], dim=-1).T
            for d in self._dimensions
        }
        return {"scores": queries @ candidates.T, **cut}


def contrastive_term(temperature: float, weight: float = 1.0, mask: str = "mask", dimension: int | None = None) -> Term:
    """InfoNCE over the candidates of the batch, times the weight of each pair; a mean over pairs.

    It must see the whole update: a split would give each part fewer negatives. dimension: of vectors cut to it.
    """
    end = "" if dimension is None else f"@{dimension}"

    def loss(outputs: Outputs, batch: MicroBatch) -> Tensor:
        values = info_nce(outputs[f"scores{end}"], batch["positive"], batch["allowed"], temperature=temperature)
        return values * batch["weights"]

    return Term(f"info_nce{end}", loss, mask=mask, weight=weight, unit="update")


def matryoshka_terms(temperature: float, dimensions: Sequence[int]) -> list[Term]:
    """The mean of InfoNCE over whole vectors and over their first d floats, for each d (arXiv 2205.13147, eq. 1).

    The paper sums with weights 1; a mean keeps the learning rate comparable.
    """
    share = 1 / (1 + len(dimensions))
    return [contrastive_term(temperature, share, dimension=d) for d in (None, *dimensions)]


class PairSource:
    """Updates of `batch_size` pairs; negatives are the batch's items, mined ones, and random ones of the catalogue."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        items: Mapping[str, str],
        positives: Mapping[str, AbstractSet[str]],
        tokenize: Tokenize,
        *,
        batch_size: int,
        random_negatives: int,
        temperature: float,
        seed: int,
        epochs: int | None = None,
        dimensions: Sequence[int] = (),
        hard: HardNegatives | None = None,
    ) -> None:
        """items: text by item id. positives: further items known to answer a query; like the items of the query's own
        pairs they are never its negatives. dimensions: the vectors are also trained when cut to these.
        Raises ValueError when a pair names an item without a text.
        """
        unknown = sorted({pair.item_id for pair in pairs} - items.keys())
        if unknown:
            raise ValueError(f"{len(unknown)} items of the pairs have no text, the first: {unknown[0]!r}")
        self._pairs, self._items, self._tokenize = pairs, items, tokenize
        self._ids = sorted(items)
        self._num_random, self._seed, self._hard = random_negatives, seed, hard
        self._terms = matryoshka_terms(temperature, dimensions)
        self._known = {query: set(item_ids) for query, item_ids in positives.items()}
        for pair in pairs:
            self._known.setdefault(pair.query, set()).add(pair.item_id)
        self._order = EpochOrder([1] * len(pairs), batch_size, seed, epochs)
        facts = repr([(p.query, p.item_id, p.weight) for p in pairs]).encode()
        self._identity = {"pairs": hashlib.sha256(facts).hexdigest(), "items": len(items), "seed": seed}

    @property
    def batches_per_epoch(self) -> int:
        """Updates in one pass over the pairs."""
        return self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update of that number as one micro-batch, None after the last epoch."""
        rows = self._order.rows(step)
        if rows is None:
            return None
        batch = [self._pairs[row] for row in rows]
        candidates = self._candidates(batch, step)
        return Update([self._micro_batch(batch, candidates)], self._terms)

    def reads_model(self, step: int) -> bool:
        """Whether negatives may be mined before that update with the encoder as it then is."""
        return self._hard is not None and self._hard.mines(step)

    def _candidates(self, batch: Sequence[Pair], step: int) -> list[str]:
        """The distinct items of the batch, then mined, then random ones; drawn by the update's number."""
        own = [pair.item_id for pair in batch]
        mined = self._hard.draw([pair.query for pair in batch], self._known, step) if self._hard else []
        count = min(self._num_random, len(self._ids))
        drawn = random.Random(seed_of(self._seed, step, "negatives")).sample(self._ids, count)
        return list(dict.fromkeys([*own, *mined, *drawn]))

    def _micro_batch(self, batch: Sequence[Pair], candidates: Sequence[str]) -> dict[str, Any]:
        place = {item_id: column for column, item_id in enumerate(candidates)}
        known = [[item_id in self._known[pair.query] for item_id in candidates] for pair in batch]
        return {
            "queries": self._tokenize([pair.query for pair in batch], "query"),
            "candidates": self._tokenize([self._items[item_id] for item_id in candidates], "item"),
            "positive": torch.tensor([place[pair.item_id] for pair in batch]),
            "allowed": ~torch.tensor(known),
            "weights": torch.tensor([pair.weight for pair in batch]),
            "mask": torch.ones(len(batch), dtype=torch.bool),
        }

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on, and what was mined; the position is the update's number."""
        return {**self._identity, "mined": self._hard.state_dict() if self._hard else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Refuses to go on with other data: ValueError naming what differs."""
        refuse_other_data(self._identity, state)
        if self._hard:
            self._hard.load_state_dict(state["mined"])
