"""What a query says outright and an item's text answers: exclusions ("without straw") and measures ("2 m"), as a judge.

A text encoder and a language model find what a query names, also where it is named to be left out. This judge reads the
query as search does (retrieval.rewriting) and counts what the item's text holds against it and for it; it is silent on
most pairs, so it is a member of an ensemble rather than a judge to use alone.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.judge_card import JudgeCard, write_judge_card
from goodrate.relevance.odds import check_odds, label_probabilities
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import explained
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.retrieval.rewriting.constraint_rules import FOLDER, languages
from goodrate.retrieval.rewriting.exclusions import evidence
from goodrate.retrieval.rewriting.quantities import matches
from goodrate.retrieval.rewriting.query_constraints import QueryConstraints, read_query
from goodrate.scale import RelevanceScale

FIELDS = ("title", "description", "attributes")


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """language: of the rules that queries are read by. fields: what is read of an item. slope, cuts (L - 1): to labels.

    labelled_pairs: how many labels set slope and cuts.
    """

    kind: ClassVar[str] = "constraints"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "slope", "cuts"})
    slope: float
    cuts: tuple[float, ...]
    language: str = "en"
    fields: tuple[str, ...] = FIELDS
    labelled_pairs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from goodrate.catalog.rendering import JUDGE_FIELDS, check_fields

        check_fields(self.fields, JUDGE_FIELDS)
        check_odds(self.slope, self.cuts, len(self.relevance_scale))
        if self.language not in languages():
            raise ValueError(f"language {self.language!r}: no rules for it; known: {', '.join(languages())}")


def open_kind(folder: Path, card: JudgeCard) -> ConstraintJudge:
    """The judge of a folder."""
    assert isinstance(card, Card)
    return ConstraintJudge(card)


def write_constraint_judge(folder: Path, card: Card) -> None:
    """Make a judge folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_judge_card(folder, card)


class ConstraintJudge:
    """The rules of a language with a card."""

    def __init__(self, card: Card) -> None:
        self.card = card

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """The rules, what is read, and how the score becomes labels."""
        odds = [self.card.slope, list(self.card.cuts)]
        return {"rules": rules_hash(self.card.language), "fields": list(self.card.fields), "odds": odds}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The card's fields of each item."""
        return field_texts(items, self.card.fields)

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """(N,): of each pair's exclusions and measures, those that the item meets less those that it violates."""
        scores = np.zeros(len(pairs))
        read = {query: read_query(query, self.card.language) for query in dict.fromkeys(pair.query for pair in pairs)}
        asked = [n for n, pair in enumerate(pairs) if read[pair.query].must_not or read[pair.query].measures]
        for n, text in zip(asked, self.reads([pairs[n].item for n in asked]), strict=True):
            scores[n] = constraint_score(read[pairs[n].query], text)
        return scores

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the score."""
        return Assessment.of(label_probabilities(self.scores(pairs), self.card.slope, self.card.cuts))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """What the item's text says of each exclusion and measure, and the query's words that it has and lacks."""
        texts = self.reads([pair.item for pair in pairs])
        return [_explanation(pair.query, text, self.card.language) for pair, text in zip(pairs, texts, strict=True)]


def constraint_score(query: QueryConstraints, text: str) -> float:
    """Of a query's exclusions and measures, those that a text meets less those that it violates.

    >>> constraint_score(read_query("water bottle without straw"), "bottle with straw lid")
    -1.0
    """
    return float(sum(met for _, met in _answers(query, text)))


_EXCLUDED = {"absent": 1, "present": -1, None: 0}
_MEASURED = {True: 1, False: -1, None: 0}


def _answers(query: QueryConstraints, text: str) -> list[tuple[str, int]]:
    """Each exclusion and measure in the query's words, with 1 = met, -1 = violated, 0 = not spoken of."""
    excluded = [(one.text, _EXCLUDED[evidence(one, text)]) for one in query.must_not]
    return [*excluded, *((one.text, _MEASURED[matches(one, text)]) for one in query.measures)]


@functools.lru_cache(maxsize=8)
def rules_hash(language: str) -> str:
    """16 hex of sha256 over the rule file of a language."""
    return hashlib.sha256((FOLDER / f"query_rules_{language}.toml").read_bytes()).hexdigest()[:16]


def _explanation(query: str, text: str, language: str) -> Explanation:
    said = _answers(read_query(query, language), text)
    words = {1: "met", -1: "violated", 0: "not spoken of"}
    told = "; ".join(f"{part}: {words[met]}" for part, met in said) or "the query states none"
    return explained([ReasonStep("constraints", "Exclusions and measures", f"constraints {told}", told)], query, text)
