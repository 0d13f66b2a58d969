"""The cosine of a text encoder as a judge: what every other judge must beat, and what a shop without labels has.

Labels follow from the cosine by a proportional-odds model (odds), so that expected gain orders exactly as it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from goodrate.relevance.judge_card import CARD_FILE, JudgeCard, require_count, write_judge_card
from goodrate.relevance.odds import check_odds, label_probabilities
from goodrate.relevance.pairs import Item, Pair, rendered
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import explained
from goodrate.relevance.text_vectors import TextVectors, shared_vectors
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from goodrate.models.encoder import Encoder


OWN = "encoder"  # the folder of an encoder inside that of its judge


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """encoder: folder or hub id, and its fingerprint. fields: what it reads of an item. slope, cuts (L - 1): the model.

    characters: of an item's text that it reads; 0 = all of it. labelled_pairs: how many labels set slope and cuts; 0 =
    none, and they are a guess (see cuts_without_labels).
    """

    kind: ClassVar[str] = "encoder"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "encoder", "fingerprint", "slope", "cuts"})
    encoder: str
    fingerprint: str
    slope: float
    cuts: tuple[float, ...]
    fields: tuple[str, ...] = ("title", "description")
    characters: int = 0
    labelled_pairs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from goodrate.catalog.rendering import JUDGE_FIELDS, check_fields

        check_fields(self.fields, JUDGE_FIELDS)
        require_count("characters", self.characters, least=0)
        check_odds(self.slope, self.cuts, len(self.relevance_scale))


def open_kind(folder: Path, card: JudgeCard) -> EncoderJudge:
    """The judge of a folder.

    Raises FileNotFoundError when its encoder is missing, ValueError when it is another one than the card was made with.
    """
    assert isinstance(card, Card)
    return EncoderJudge(open_vectors(folder, card.encoder, card.fingerprint), card)


def open_vectors(folder: Path, name: str, fingerprint: str) -> TextVectors:
    """Those of the encoder that a judge folder names, shared with other judges that have it open. As open_kind."""
    from goodrate.models.encoder import Encoder

    beside = folder / name
    try:
        encoder = Encoder.load(str(beside) if beside.is_dir() else name, precision="auto")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder / CARD_FILE} names an encoder that is missing: {error}") from error
    if encoder.fingerprint != fingerprint:
        raise ValueError(f"{folder}: {name} is another encoder than this judge was made with; make it anew")
    return shared_vectors(encoder)


def write_encoder_judge(folder: Path, card: Card) -> None:
    """Make a judge folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_judge_card(folder, card)


def write_own_encoder(folder: Path, judge: EncoderJudge) -> None:
    """Make a judge folder that holds its encoder, too, and hangs on nothing outside."""
    write_encoder_judge(folder, replace(judge.card, encoder=OWN))
    judge.encoder.save(folder / OWN)


class EncoderJudge:
    """A text encoder with a card. Vectors of item texts are kept while it is loaded."""

    def __init__(self, encoder: Encoder | TextVectors, card: Card) -> None:
        self.vectors = encoder if isinstance(encoder, TextVectors) else TextVectors(encoder)
        self.card = card

    @property
    def encoder(self) -> Encoder:
        """What encodes queries and items."""
        return self.vectors.encoder

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """The encoder, and how its cosine becomes labels."""
        model = [self.card.slope, list(self.card.cuts)]
        return {"encoder": self.card.fingerprint, "precision": self.encoder.precision, "odds": model}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The card's fields of each item, cut where the card says so."""
        return [text[: self.card.characters or None] for text in field_texts(items, self.card.fields)]

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the cosine of query and item."""
        return Assessment.of(label_probabilities(self.cosines(pairs), self.card.slope, self.card.cuts))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """The cosine, and the query's words that the item has and lacks."""
        rows = zip(pairs, self.reads([pair.item for pair in pairs]), self.cosines(pairs), strict=True)
        return [_explanation(pair.query, text, float(cosine)) for pair, text, cosine in rows]

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """What orders: the cosine, (N,)."""
        return self.cosines(pairs)

    def cosines(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Cosine of each pair's query and item, (N,)."""
        if not pairs:
            return np.zeros(0)
        queries = list(dict.fromkeys(pair.query for pair in pairs))
        place = {query: row for row, query in enumerate(queries)}
        query_vectors = self.query_vectors(queries)[[place[pair.query] for pair in pairs]]
        return np.einsum("nd,nd->n", query_vectors, self.item_vectors([pair.item for pair in pairs]))

    def query_vectors(self, queries: Sequence[str]) -> np.ndarray:
        """Vectors (Q, D) of queries."""
        return self.vectors.queries(queries)

    def item_vectors(self, items: Sequence[Item]) -> np.ndarray:
        """Vectors (N, D) of items."""
        return self.vectors.items(self.reads(items))


def field_texts(items: Sequence[Item], fields: Sequence[str]) -> list[str]:
    """These fields of each item in one line; of an item that is a bare text, that text."""
    from goodrate.catalog.rendering import render_rows

    return rendered(items, lambda rows: render_rows(rows, fields))


def _explanation(query: str, item_text: str, cosine: float) -> Explanation:
    line = f"cosine {cosine:.3f}"
    return explained([ReasonStep("similarity", "Alike in meaning", line, f"{cosine:.2f} of 1")], query, item_text)
