"""How much of a query's words an item has, rare words counting more, as a judge: what a full text knows, in 0..1.

The share is comparable between queries, which BM25's sums are not, so it can be added to other scores. Words that a
query excludes are not asked for. Inverse document frequencies are those of BM25 (Robertson and Zaragoza 2009).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from goodrate.catalog.rendering import RENDERED_FIELDS
from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.judge_card import JudgeCard, write_judge_card
from goodrate.relevance.odds import check_odds, label_probabilities
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import explained
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.retrieval.languages import rules_language
from goodrate.retrieval.rewriting.query_constraints import read_query
from goodrate.retrieval.rewriting.words import comparable
from goodrate.run_folder import write_atomic
from goodrate.scale import RelevanceScale

COUNTS_FILE = "word_counts.json"


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """language: of the rules by which exclusions are read. fields: what is read of an item.

    slope, cuts (L - 1): to labels. labelled_pairs: how many labels set them.
    """

    kind: ClassVar[str] = "words"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "slope", "cuts"})
    slope: float
    cuts: tuple[float, ...]
    language: str = "en"
    fields: tuple[str, ...] = RENDERED_FIELDS
    labelled_pairs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from goodrate.catalog.rendering import JUDGE_FIELDS, check_fields

        check_fields(self.fields, JUDGE_FIELDS)
        check_odds(self.slope, self.cuts, len(self.relevance_scale))


@dataclass(frozen=True)
class WordCounts:
    """items: how many a catalogue has. holding: how many of them hold a word (retrieval.rewriting.words.comparable)."""

    items: int
    holding: Mapping[str, int]

    @classmethod
    def of(cls, texts: Iterable[str]) -> WordCounts:
        """Of a catalogue's items."""
        count, holding = 0, Counter[str]()
        for text in texts:
            count += 1
            holding.update(set(comparable(text)))
        return cls(count, dict(sorted(holding.items())))

    def rarity(self, word: str) -> float:
        """BM25's inverse document frequency, ln(1 + (N - n + 1/2) / (n + 1/2)); above 0."""
        held = min(self.holding.get(word, 0), self.items)
        return math.log(1.0 + (self.items - held + 0.5) / (held + 0.5))

    @cached_property
    def hash(self) -> str:
        """16 hex of sha256 over all counts."""
        return hashlib.sha256(self._json().encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        write_atomic(path, self._json())

    def _json(self) -> str:
        return json.dumps({"items": self.items, "holding": dict(self.holding)}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def load(cls, path: Path) -> WordCounts:
        """Read them. Raises FileNotFoundError, ValueError naming the file."""
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; the judge's word counts are missing")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(content["items"]), {str(word): int(n) for word, n in content["holding"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no word counts: {error!r}") from error


def open_kind(folder: Path, card: JudgeCard) -> WordsJudge:
    """The judge of a folder. Raises FileNotFoundError or ValueError for its counts."""
    assert isinstance(card, Card)
    return WordsJudge(WordCounts.load(folder / COUNTS_FILE), card)


def write_words_judge(folder: Path, card: Card, counts: WordCounts) -> None:
    """Make a judge folder."""
    folder.mkdir(parents=True, exist_ok=True)
    counts.save(folder / COUNTS_FILE)
    write_judge_card(folder, card)


class WordsJudge:
    """Counts of a catalogue's words with a card. The words of an item's text are kept while it is loaded."""

    def __init__(self, counts: WordCounts, card: Card) -> None:
        self.counts, self.card = counts, card

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """The counts, what is read, and how the share becomes labels."""
        read = [self.card.language, *self.card.fields]
        return {"words": self.counts.hash, "reads": read, "odds": [self.card.slope, list(self.card.cuts)]}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The card's fields of each item."""
        return field_texts(items, self.card.fields)

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """(N,): the share of each query's words, by rarity, that the item has; 0 for a query without words."""
        asked = {query: self._asked(query) for query in dict.fromkeys(pair.query for pair in pairs)}
        texts = self.reads([pair.item for pair in pairs])
        words = {text: frozenset(comparable(text)) for text in dict.fromkeys(texts)}
        each = zip(pairs, texts, strict=True)
        return np.asarray([_share(asked[pair.query], words[text]) for pair, text in each], dtype=np.float64)

    def _asked(self, query: str) -> dict[str, float]:
        """The words that a query asks for, with their rarity."""
        rules = rules_language(self.card.language)
        wanted = read_query(query, rules).positive if rules else query
        return {word: self.counts.rarity(word) for word in comparable(wanted)}

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the share."""
        return Assessment.of(label_probabilities(self.scores(pairs), self.card.slope, self.card.cuts))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """The share, and the query's words that the item has and lacks."""
        rows = zip(pairs, self.reads([pair.item for pair in pairs]), self.scores(pairs).tolist(), strict=True)
        return [_explanation(pair.query, text, share) for pair, text, share in rows]


def _share(asked: Mapping[str, float], words: frozenset[str]) -> float:
    """The part of all rarity that the words cover."""
    return sum(rarity for word, rarity in asked.items() if word in words) / (sum(asked.values()) or 1.0)


def _explanation(query: str, text: str, share: float) -> Explanation:
    step = ReasonStep("words", "Words of the query in the item", f"words {share:.3f}", f"{share:.0%} by rarity")
    return explained([step], query, text)
