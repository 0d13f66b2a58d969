"""Learning query-entity verdicts from labels of items: the loss goes through the logic to every entity.

No verdict on an entity is labelled (multiple-instance learning). An update has a few queries with some of their items;
an entity that several of a query's items share is read once. Before it the model may learn from stated pairs.

Shapes: N pairs of one list, E entities of an item, U distinct entities of the list with the questions what the query
wants, T types, L labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goodrate.catalog.normal_form import normal_text
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data
from goodrate.models.cross_encoder import CrossEncoder, PairTokens
from goodrate.recipes.entity_lift import StatedPair
from goodrate.relevance.entity_model import CONFLICT, STATES, SUPPORT
from goodrate.relevance.entity_verdicts import EntityTable
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.soft_logic import Evidence, Logic, judged

SURE = 1 - 1e-5  # the most that a verdict counts in training: log(1 - m) stays finite
SMOOTHING = 0.02  # of the labels' probabilities, spread evenly: a label that the logic excludes still has a gradient


class LogicScorer(nn.Module):
    """forward: a list's micro-batch -> {"logprobs": (N, L)}, log probabilities of labels by the logic."""

    def __init__(self, model: CrossEncoder, logic: Logic, labels: int) -> None:
        super().__init__()
        self.model, self._logic, self._labels = model, logic, labels

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        states = torch.softmax(self.model(batch["tokens"]), dim=-1)
        rows = torch.cat([states, torch.zeros_like(states[:1])])  # the last one stands for no entity
        support, conflict = (rows[batch["place"], state].clamp(max=SURE) for state in (SUPPORT, CONFLICT))
        wants = rows[batch["wants"], SUPPORT].clamp(max=SURE).expand(len(support), -1)
        probabilities = judged(Evidence(support, conflict, batch["group"], wants), self._logic, self._labels)
        even = (1 - SMOOTHING) * probabilities + SMOOTHING / self._labels
        return {"logprobs": even.log()}


class StateScorer(nn.Module):
    """forward: a micro-batch of stated pairs -> {"logprobs": (U, 3)}, log probabilities of their states."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        return {"logprobs": torch.log_softmax(self.model(batch["tokens"]), dim=-1)}


def _nll(outputs: Outputs, batch: MicroBatch) -> Tensor:
    return -outputs["logprobs"].gather(1, batch["target"][:, None])[:, 0] * batch["weight"]


TERM = Term("nll", _nll, mask="mask", unit="pair")


class ItemLists:
    """Updates of `queries` lists of at most `items` judged pairs of one query each."""

    def __init__(
        self, pairs: Sequence[JudgedPair], table: EntityTable, model: CrossEncoder, *, queries: int, items: int,
        seed: int, epochs: int | None,
    ) -> None:  # fmt: skip
        """Raises ValueError when no pair has an entity that the model can read."""
        lists = _lists(pairs, items, seed)
        read = (_micro_batch(one, table, model) for one in lists)
        self._batches = [batch for batch in read if batch is not None]
        if not self._batches:
            raise ValueError("no training pair has an entity: items need a title, a category or shared attributes")
        sizes = [int(batch["tokens"]["input_ids"].shape[0]) for batch in self._batches]
        self._order = EpochOrder(sizes, queries, seed, epochs)
        facts = repr([(p.query, p.item_id, p.label) for p in pairs]).encode("utf-8", "surrogatepass")
        self._identity = {"pairs": hashlib.sha256(facts).hexdigest(), "queries": queries, "items": items, "seed": seed}
        self.read, self.asked = sum(sizes), sum(int((batch["group"] >= 0).sum()) for batch in self._batches)

    @property
    def batches_per_epoch(self) -> int:
        """Updates in one pass over the pairs."""
        return self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update of that number, None after the last epoch."""
        rows = self._order.rows(step)
        return None if rows is None else Update([self._batches[row] for row in rows], [TERM])

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on."""
        return self._identity

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. ValueError naming what differs."""
        refuse_other_data(self._identity, state)


def _lists(pairs: Sequence[JudgedPair], items: int, seed: int) -> list[list[JudgedPair]]:
    """Each query's pairs in a drawn order, in lists of at most so many."""
    by_query: dict[str, list[JudgedPair]] = {}
    for pair in pairs:
        by_query.setdefault(pair.query, []).append(pair)
    rng = np.random.default_rng(seed)
    lists = []
    for own in by_query.values():
        drawn = [own[place] for place in rng.permutation(len(own))]
        lists += [drawn[start : start + items] for start in range(0, len(drawn), items)]
    return lists


def _micro_batch(pairs: Sequence[JudgedPair], table: EntityTable, model: CrossEncoder) -> dict[str, Any] | None:
    """A list as tensors; None where its query is too long or no item has an entity. Items without one are left out."""
    pairs = [pair for pair in pairs if len(table.row(pair.item))]
    if not pairs:
        return None
    numbers, groups = table.rows([pair.item for pair in pairs])
    distinct = np.unique(np.concatenate([table.demand, numbers[numbers >= 0]]))
    texts = [str(table.entities[number]) for number in distinct.tolist()]
    tokens = model.tokenize([normal_text(pairs[0].query)] * len(texts), texts)
    if any(one is None for one in tokens):
        return None
    place = np.where(numbers >= 0, np.searchsorted(distinct, numbers), len(distinct))
    return {
        "tokens": model.collate([one for one in tokens if one is not None]),
        "place": torch.from_numpy(place), "group": torch.from_numpy(groups),
        "wants": torch.from_numpy(np.searchsorted(distinct, table.demand)),
        "target": torch.tensor([pair.label for pair in pairs]),
        "weight": torch.tensor([pair.weight for pair in pairs], dtype=torch.float32),
        "mask": torch.ones(len(pairs), dtype=torch.bool),
    }  # fmt: skip


class StatedPairs:
    """Updates of `batch_size` stated pairs; a state counts as much as all others together, however rare it is."""

    def __init__(
        self, stated: Sequence[StatedPair], model: CrossEncoder, *, batch_size: int, seed: int, epochs: int
    ) -> None:
        """Raises ValueError when there is none."""
        queries = [normal_text(one.query) for one in stated]
        read = model.tokenize(queries, [str(one.entity) for one in stated])
        usable = [(tokens, one) for tokens, one in zip(read, stated, strict=True) if tokens is not None]
        self._tokens: list[PairTokens] = [tokens for tokens, _ in usable]
        self._states = np.asarray([one.state for _, one in usable], dtype=np.int64)
        counts = np.bincount(self._states, minlength=STATES)
        self._weights = len(self._states) / np.maximum(1, counts) / max(1, int((counts > 0).sum()))
        self._model = model
        self._order = EpochOrder([len(tokens.token_ids) for tokens in self._tokens], batch_size, seed, epochs)
        facts = repr([(one.query, one.entity, one.state) for one in stated]).encode("utf-8", "surrogatepass")
        self._identity = {"pairs": hashlib.sha256(facts).hexdigest(), "batch_size": batch_size, "seed": seed}

    @property
    def batches_per_epoch(self) -> int:
        """Updates in one pass over the pairs."""
        return self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update of that number, None after the last epoch."""
        rows = self._order.rows(step)
        if rows is None:
            return None
        states = self._states[rows]
        batch = {
            "tokens": self._model.collate([self._tokens[row] for row in rows]), "target": torch.from_numpy(states),
            "weight": torch.from_numpy(self._weights[states]).float(), "mask": torch.ones(len(rows), dtype=torch.bool),
        }  # fmt: skip
        return Update([batch], [TERM])

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on."""
        return self._identity

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. ValueError naming what differs."""
        refuse_other_data(self._identity, state)
