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
from goodrate.relevance.entity_start import EntityStart
from goodrate.relevance.entity_verdicts import EntityTable
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.soft_logic import Evidence, Logic, judged

SURE = 1 - 1e-5  # the most that a verdict counts in training: log(1 - m) stays finite
SMOOTHING = 0.02  # of the labels' probabilities, spread evenly: a label that the logic excludes still has a gradient


class LogicScorer(nn.Module):
    """forward: a list's micro-batch -> {"logprobs": (N, L)}, log probabilities of labels by the logic.

    Of a model with a start (entity_start) the batch has "start", logits (U, 3) that the model's are added to, and
    "whole", verdicts (V, 2) that nothing changes; places count through the U, the V and one that is no entity.
    """

    def __init__(self, model: CrossEncoder, logic: Logic, labels: int) -> None:
        super().__init__()
        self.model, self._logic, self._labels = model, logic, labels

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        numbers = self.model(batch["tokens"])
        states = torch.softmax(numbers + batch["start"] if "start" in batch else numbers, dim=-1)
        told = [states[:, [SUPPORT, CONFLICT]]]
        if "whole" in batch:
            told.append(batch["whole"].to(states.dtype))
        rows = torch.cat([*told, torch.zeros_like(told[0][:1])])  # the last one stands for no entity
        support, conflict = (rows[batch["place"], state].clamp(max=SURE) for state in (0, 1))
        wants = rows[batch["wants"], 0].clamp(max=SURE).expand(len(support), -1)
        probabilities = judged(Evidence(support, conflict, batch["group"], wants), self._logic, self._labels)
        even = (1 - SMOOTHING) * probabilities + SMOOTHING / self._labels
        return {"logprobs": even.log()}


class StateScorer(nn.Module):
    """forward: a micro-batch of stated pairs -> {"logprobs": (U, 3)}, log probabilities of their states."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        numbers = self.model(batch["tokens"])
        return {"logprobs": torch.log_softmax(numbers + batch["start"] if "start" in batch else numbers, dim=-1)}


def _nll(outputs: Outputs, batch: MicroBatch) -> Tensor:
    return -outputs["logprobs"].gather(1, batch["target"][:, None])[:, 0] * batch["weight"]


TERM = Term("nll", _nll, mask="mask", unit="pair")


class ItemLists:
    """Updates of `queries` lists of at most `items` judged pairs of one query each."""

    def __init__(
        self, pairs: Sequence[JudgedPair], table: EntityTable, model: CrossEncoder, *, queries: int, items: int,
        seed: int, epochs: int | None, start: EntityStart | None = None,
    ) -> None:  # fmt: skip
        """Raises ValueError when no pair has an entity that the model can read."""
        lists = _lists(pairs, items, seed)
        read = (_micro_batch(one, table, model, start) for one in lists)
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


def _micro_batch(
    pairs: Sequence[JudgedPair], table: EntityTable, model: CrossEncoder, start: EntityStart | None
) -> dict[str, Any] | None:
    """A list as tensors; None where its query is too long or no item has a part. Items without an entity are left out.

    The entities that the model reads come first, then those that the start knows, then none.
    """
    pairs = [pair for pair in pairs if len(table.row(pair.item))]
    if not pairs:
        return None
    numbers, groups = table.rows([pair.item for pair in pairs])
    distinct = np.unique(np.concatenate([table.demand, numbers[numbers >= 0]]))
    entities = [table.entities[number] for number in distinct.tolist()]
    known = np.asarray([start is not None and start.knows(one) for one in entities])
    query = normal_text(pairs[0].query)
    parts = [one for one, whole in zip(entities, known.tolist(), strict=True) if not whole]
    tokens = model.tokenize([query] * len(parts), [str(one) for one in parts])
    if any(one is None for one in tokens) or not tokens:
        return None
    order = np.argsort(known, kind="stable")
    of_number = np.full(len(table.entities) + 1, len(distinct))
    of_number[distinct[order]] = np.arange(len(distinct))
    more = {}
    if start is not None:
        whole = [one for one, its in zip(entities, known.tolist(), strict=True) if its]
        told = start.verdicts([query] * len(whole), whole) if whole else np.zeros((0, 2))
        more = {"start": torch.from_numpy(start.logits([query] * len(parts), parts)).float(),
                "whole": torch.from_numpy(told).float()}  # fmt: skip
    return {
        "tokens": model.collate([one for one in tokens if one is not None]), **more,
        "place": torch.from_numpy(of_number[numbers]), "group": torch.from_numpy(groups),
        "wants": torch.from_numpy(of_number[table.demand]),
        "target": torch.tensor([pair.label for pair in pairs]),
        "weight": torch.tensor([pair.weight for pair in pairs], dtype=torch.float32),
        "mask": torch.ones(len(pairs), dtype=torch.bool),
    }  # fmt: skip


class StatedPairs:
    """Updates of `batch_size` stated pairs; a state counts as much as all others together, however rare it is."""

    def __init__(
        self, stated: Sequence[StatedPair], model: CrossEncoder, *, batch_size: int, seed: int, epochs: int,
        start: EntityStart | None = None,
    ) -> None:  # fmt: skip
        """Raises ValueError when there is none."""
        queries = [normal_text(one.query) for one in stated]
        read = model.tokenize(queries, [str(one.entity) for one in stated])
        usable = [(tokens, one) for tokens, one in zip(read, stated, strict=True) if tokens is not None]
        self._tokens: list[PairTokens] = [tokens for tokens, _ in usable]
        self._states = np.asarray([one.state for _, one in usable], dtype=np.int64)
        asked, parts = [normal_text(one.query) for _, one in usable], [one.entity for _, one in usable]
        self._start = None if start is None else torch.from_numpy(start.logits(asked, parts)).float()
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
        more = {} if self._start is None else {"start": self._start[rows]}
        batch = {
            **more,
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
