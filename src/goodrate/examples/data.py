"""What a recipe trains on: items, and judgements in parts that share no query group, from files, frames or a shop."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from goodrate.examples.contexts import ContextTexts, with_contexts
from goodrate.examples.settings import WITHOUT_CONTEXT, PairChoice
from goodrate.relevance.pairs import Item, JudgedPair
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.examples.taught_reasons import TaughtReasons
    from goodrate.relevance.rationale import Rationale

Truth = Callable[[str, str], "Rationale"]  # query id, item id -> the true steps


@dataclass(frozen=True)
class TrainingData:
    """Items, and judgements in parts "train", "dev" and perhaps "test" that share no query group.

    choice: the settings that these data follow from; a run resumes on the same only. facts: by query id, what the shop
    knows of the names in a query. truth: the true steps. taught: what a teacher wrote for training pairs, in place of
    those. notes: what reading the files lost. contexts: texts that judges may read. clicks: (query, item id, weight) of
    what shoppers chose, none of a dev or test query; None where nobody told. baseline: folder or hub id of the text
    encoder that judges are compared with.
    """

    catalog: Catalog
    scale: RelevanceScale
    parts: dict[str, Judgements]
    choice: PairChoice
    facts: Mapping[str, str] = field(default_factory=dict)
    truth: Truth | None = None
    taught: TaughtReasons | None = None
    notes: tuple[str, ...] = ()
    contexts: ContextTexts | None = None
    clicks: list[tuple[str, str, float]] | None = None
    baseline: str | None = None

    def __post_init__(self) -> None:
        for part in ("train", "dev"):
            if not len(self.parts[part]):
                raise ValueError(f"no judgements are left for {part}; give more queries or another data.{part}_share")

    @property
    def label_warnings(self) -> tuple[str, ...]:
        """What has to be known of a judge that is measured on the labels of a model."""
        models = self.parts["dev"].models
        names = ", ".join(models)
        told = f"tuned and measured on labels made by {names}, not by people: its numbers are agreement with it"
        return (told,) if models else ()

    @cached_property
    def rows(self) -> dict[str, Item]:
        """Catalogue rows by id; a row is one object in all pairs, so that it is rendered once."""
        return {row["id"]: row for row in self.catalog.to_rows()}

    @property
    def named_contexts(self) -> str | None:
        """The texts that the settings name; a shop has its own, unnamed."""
        return getattr(self.choice, "contexts", None)

    @property
    def reasons_known(self) -> bool:
        """Whether some pairs have steps behind their labels."""
        return self.truth is not None or self.taught is not None

    def pairs(self, part: str, contexts: int | None = 0) -> list[JudgedPair]:
        """The judged pairs of a part, in file order. contexts: how many retrieved texts stand beside each query."""
        judgements = self.parts[part]
        rows = judgements.frame.select("query_id", "query", "item_id").iter_rows()
        labelled = zip(rows, judgements.label_indices().tolist(), strict=True)
        pairs = [self._pair(query_id, query, item, label) for (query_id, query, item), label in labelled]
        return with_contexts(pairs, self.contexts, contexts)

    def training_pairs(self, contexts: int | None = 0, hide_contexts: bool = False) -> list[JudgedPair]:
        """The training pairs that skip and take leave, drawn once: two stages can have parts of their own.

        hide_contexts: a share of them shows no text (choice.without_context). Raises ValueError when none is left.
        """
        pairs = self._chosen(self.pairs("train"))
        share = self.choice.without_context
        hidden = (WITHOUT_CONTEXT if share is None else share) if hide_contexts else 0.0
        return with_contexts(pairs, self.contexts, contexts, hidden, self.choice.split_seed)

    def part_of_training(self, skip: int, take: int | None) -> TrainingData:
        """The same data with another choice of training pairs."""
        return replace(self, choice=self.choice.model_copy(update={"skip": skip, "take": take}))

    def _chosen(self, pairs: list[JudgedPair]) -> list[JudgedPair]:
        skip, take = self.choice.skip, self.choice.take
        if not skip and take is None:
            return pairs
        order = random.Random(self.choice.split_seed).sample(range(len(pairs)), len(pairs))
        rows = sorted(order[skip : None if take is None else skip + take])
        if not rows:
            raise ValueError(f"data.skip = {skip}: there are {len(pairs)} training pairs")
        return [pairs[row] for row in rows]

    def _pair(self, query_id: str, query: str, item_id: str, label: int) -> JudgedPair:
        reason, weight = self._reason(query_id, query, item_id)
        return JudgedPair(
            query, self.rows[item_id], self.facts.get(query_id, ""), label=label, reason=reason, weight=weight
        )

    def _reason(self, query_id: str, query: str, item_id: str) -> tuple[Rationale | None, float]:
        """The steps of a pair, None where nobody knows them, and the weight of its example."""
        if self.taught is not None:
            return self.taught.by_pair.get((query, item_id), (None, 1.0))
        return (self.truth(query_id, item_id) if self.truth else None), 1.0
