"""Updates of a cross-encoder: queries with a few of their graded items each, and the model part that scores them.

Two terms: cross-entropy of every pair against its target distribution over labels, and an order within each query by
what serves, the expected gain. Items that nobody labelled (silver) take part in the first alone: a graded order should
not hang on guesses.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from goodrate.learning.losses import lambda_loss, ranknet, soft_cross_entropy
from goodrate.learning.records import MicroBatch, Outputs, Term, Update
from goodrate.learning.source import EpochOrder, refuse_other_data, seed_of
from goodrate.models.cross_encoder import CrossEncoder, PairTokens

Order = Literal["pairwise", "lambda", "none"]
ORDERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"pairwise": ranknet, "lambda": lambda_loss}


@dataclass(frozen=True)
class GradedPair:
    """A pair as it is read, its target distribution over L labels (worst first), and how much it counts.

    start: logits (L,) that the model's own are added to; none for a model that starts from nothing.
    """

    tokens: PairTokens
    target: tuple[float, ...]
    weight: float = 1.0
    start: tuple[float, ...] = ()


@dataclass(frozen=True)
class GradedList:
    """What is known of one query: graded items, and silver ones that nobody graded."""

    graded: tuple[GradedPair, ...]
    silver: tuple[GradedPair, ...] = ()


@dataclass(frozen=True)
class Shape:
    """queries: in an update. graded, silver: items of each at most, drawn anew each time. max_tokens: padded, of a
    micro-batch; memory and speed only."""

    queries: int
    graded: int
    silver: int
    max_tokens: int


class ListScorer(nn.Module):
    """forward: micro-batch -> {"logits": (Q, K, L)}, 0 where a list has no item."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MicroBatch) -> dict[str, Tensor]:
        values = self.model(batch["pairs"])
        lists, items = batch["mask"].shape
        if "start" in batch:
            values = values + batch["start"]
        logits = values.new_zeros(lists * items, values.shape[1]).index_copy(0, batch["cell"], values)
        return {"logits": logits.view(lists, items, -1)}


def gain_scores(logits: Tensor, gains: Tensor) -> Tensor:
    """log(e / (1 - e)), e the expected gain as a share: sum_l softmax(z)_l a_l; logits (..., L) -> (...).

    gains: a (L,), 0 for the worst label and 1 for the best. Orders as expected gain does, without its flat ends; with
    two labels it is the difference of their logits.
    """
    return torch.logsumexp(logits + gains.log(), -1) - torch.logsumexp(logits + (1 - gains).log(), -1)


def terms_of(gains: Sequence[float], order: Order, order_weight: float) -> list[Term]:
    """The label term, and the order term where one is wanted. gains: (L,) of the scale, rising."""
    share = [(gain - gains[0]) / (gains[-1] - gains[0]) for gain in gains]

    def labels(outputs: Outputs, batch: MicroBatch) -> Tensor:
        return soft_cross_entropy(outputs["logits"].log_softmax(-1), batch["target"]) * batch["weights"]

    def ordered(outputs: Outputs, batch: MicroBatch) -> Tensor:
        a = torch.tensor(share, device=batch["target"].device)
        return ORDERS[order](gain_scores(outputs["logits"], a), batch["target"] @ a, batch["graded"])

    label_term = Term("labels", labels, mask="mask")
    if order == "none":
        return [label_term]
    return [label_term, Term("order", ordered, mask="lists", weight=order_weight, unit="group")]


class GradedListSource:
    """Updates over a fixed list of queries, epoch by epoch; which items stand for a query follows from the update."""

    def __init__(
        self, lists: Sequence[GradedList], terms: Sequence[Term], collate: Callable[..., dict[str, Tensor]],
        shape: Shape, *, seed: int, epochs: int | None = None,
    ) -> None:  # fmt: skip
        """collate: CrossEncoder.collate. A list needs one graded item at least."""
        assert all(one.graded for one in lists)
        self._lists, self._terms, self._collate, self._shape, self._seed = lists, terms, collate, shape, seed
        self._order = EpochOrder([1] * len(lists), shape.queries, seed, epochs)
        drawn = [shape.queries, shape.graded, shape.silver]
        self._state = {"sha256": _fingerprint(lists), "seed": seed, "drawn": drawn}

    @property
    def batches_per_epoch(self) -> int:
        """Updates in one pass over the queries."""
        return self._order.batches_per_epoch

    def next(self, step: int) -> Update | None:
        """The update of that number, None after the last epoch."""
        rows = self._order.rows(step)
        if rows is None:
            return None
        drawn = [self._drawn(row, step) for row in rows]
        return Update([self._micro_batch(part) for part in self._parts(drawn)], self._terms)

    def _drawn(self, row: int, step: int) -> GradedList:
        rng = random.Random(seed_of(self._seed, step, "items", row))
        one, shape = self._lists[row], self._shape
        return GradedList(_some(one.graded, shape.graded, rng), _some(one.silver, shape.silver, rng))

    def _parts(self, lists: Sequence[GradedList]) -> list[list[GradedList]]:
        """Whole lists in micro-batches whose padded size stays within max_tokens; one list at least."""
        parts: list[list[GradedList]] = []
        rows = longest = 0
        for one in lists:
            pairs = [*one.graded, *one.silver]
            longest = max(longest, *(len(pair.tokens.token_ids) for pair in pairs))
            rows += len(pairs)
            if not parts or rows * longest > self._shape.max_tokens:
                parts.append([])
                rows, longest = len(pairs), max(len(pair.tokens.token_ids) for pair in pairs)
            parts[-1].append(one)
        return parts

    def _micro_batch(self, lists: Sequence[GradedList]) -> dict[str, Any]:
        """Real pairs in rows, and where each stands among (Q, K)."""
        members = [[*one.graded, *one.silver] for one in lists]
        most, labels = max(map(len, members)), len(members[0][0].target)
        pairs = [pair for row in members for pair in row]
        cell = torch.tensor([q * most + k for q, row in enumerate(members) for k in range(len(row))])
        target, weights = torch.zeros(len(lists) * most, labels), torch.zeros(len(lists) * most)
        target[cell] = torch.tensor([pair.target for pair in pairs])
        weights[cell] = torch.tensor([pair.weight for pair in pairs])
        places = torch.arange(most)[None]
        differing = [len({pair.target for pair in one.graded}) > 1 for one in lists]
        counts = torch.tensor([[len(row), len(one.graded)] for row, one in zip(members, lists, strict=True)])
        start = {"start": torch.tensor([pair.start for pair in pairs])} if pairs[0].start else {}
        return {
            "pairs": self._collate([pair.tokens for pair in pairs]), "cell": cell, **start,
            "target": target.view(len(lists), most, labels), "weights": weights.view(len(lists), most),
            "mask": places < counts[:, :1], "graded": places < counts[:, 1:],
            "lists": torch.tensor(differing),
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What the order depends on; the position is the update's number."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuse to go on with other data: ValueError naming what differs."""
        refuse_other_data(self._state, state)


def _some(pairs: Sequence[GradedPair], count: int, rng: random.Random) -> tuple[GradedPair, ...]:
    """At most so many of them, drawn."""
    return tuple(pairs if len(pairs) <= count else rng.sample(list(pairs), count))


def _fingerprint(lists: Sequence[GradedList]) -> str:
    """sha256 over all tokens, targets and weights."""
    digest = hashlib.sha256()
    for one in lists:
        for pairs in (one.graded, one.silver):
            digest.update(array("q", [len(pairs)]))
            for pair in pairs:
                ids = pair.tokens.token_ids
                digest.update(array("q", [len(ids), *ids]))
                digest.update(array("d", [*pair.target, pair.weight, *pair.start]))
    return digest.hexdigest()
