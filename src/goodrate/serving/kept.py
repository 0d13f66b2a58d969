"""A judge folder behind the pipeline: facts looked up, verdicts kept, reasons decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from goodrate.relevance.facts import FactBook
from goodrate.relevance.judge import Judge, Pair
from goodrate.relevance.pair_file import item_texts
from goodrate.relevance.verdict_store import VerdictStore, judge_once
from goodrate.serving.judging import ServedVerdict, served

if TYPE_CHECKING:
    import polars as pl

    from goodrate.relevance.context import ContextFinder
    from goodrate.scale import RelevanceScale


class KeptVerdicts:
    """A judge that remembers.

    kept: None = remember nothing. facts: what the shop knows of the names in queries; None = nothing. contexts: finds
    the texts of a query, for a judge that reads some; None = it reads none.
    """

    def __init__(
        self,
        judge: Judge,
        name: str,
        kept: VerdictStore | None = None,
        facts: FactBook | None = None,
        contexts: ContextFinder | None = None,
    ) -> None:
        self.name = name
        self._judge = judge
        self._kept = kept
        self._facts = facts or FactBook.create([])
        self._contexts = contexts if judge.card.contexts else None

    @property
    def scale(self) -> RelevanceScale:
        """The scale of the labels."""
        return self._judge.scale

    def item_texts(self, frame: pl.DataFrame) -> list[str]:
        """The items as this judge was trained to read them."""
        return item_texts(frame, self._judge.card.item_form)

    def verdicts(self, query: str, item_texts: Sequence[str]) -> list[ServedVerdict]:
        """One verdict per text; only texts that were not judged before reach the model."""
        return self._judged(query, item_texts, reasons=False)

    def explain(self, query: str, item_text: str) -> ServedVerdict:
        """The verdict with its reason, decoded when it is not kept."""
        return self._judged(query, [item_text], reasons=True)[0]

    def _judged(self, query: str, item_texts: Sequence[str], reasons: bool) -> list[ServedVerdict]:
        facts = self._facts.of(query)
        context = self._contexts.line(query, self._judge.card.contexts) if self._contexts else None
        pairs = [Pair(query, text, facts, context) for text in item_texts]
        if self._kept is None:
            return [served(verdict, self.scale, context=context) for verdict in self._judge.judge(pairs, reasons)]
        kept = judge_once(self._judge, self._kept, pairs, reasons)
        each = zip(kept.verdicts, kept.cached, strict=True)
        return [served(verdict, self.scale, cached, context) for verdict, cached in each]
