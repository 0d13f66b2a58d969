"""The cosine of a text encoder as a judge: what every other judge must beat, and what a shop without labels has.

Labels follow from the cosine c by a proportional-odds model, P(label >= l) = sigmoid(slope * c - cut_l) with slope >= 0
and rising cuts (McCullagh 1980), so that expected gain orders exactly as the cosine does. The use of it is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from goodrate.catalog.normal_form import composed_text
from goodrate.relevance.judge_card import CARD_FILE, JudgeCard, require_number, write_judge_card
from goodrate.relevance.pairs import TEXT, Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import word_steps
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from goodrate.models.encoder import Encoder

REMEMBERED = 200_000  # item vectors that a loaded judge keeps
CHANCE_QUANTILE = 0.99  # of the cosines of unrelated pairs: where the lowest label ends when nobody gave labels


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """encoder: folder or hub id, and its fingerprint. fields: what it reads of an item. slope, cuts (L - 1): the model.

    labelled_pairs: how many labels set slope and cuts; 0 = none, and they are a guess (see cuts_without_labels).
    """

    kind: ClassVar[str] = "encoder"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "encoder", "fingerprint", "slope", "cuts"})
    encoder: str
    fingerprint: str
    slope: float
    cuts: tuple[float, ...]
    fields: tuple[str, ...] = ("title", "description")
    labelled_pairs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from goodrate.catalog.rendering import check_fields

        check_fields(self.fields)
        require_number("slope", self.slope, above=-1e-12)
        for cut in self.cuts:
            require_number("cuts", cut, above=-math.inf)
        if len(self.cuts) != len(self.relevance_scale) - 1 or list(self.cuts) != sorted(self.cuts):
            raise ValueError(f"cuts {list(self.cuts)}: expected {len(self.relevance_scale) - 1} rising numbers")


def open_kind(folder: Path, card: JudgeCard) -> EncoderJudge:
    """The judge of a folder.

    Raises FileNotFoundError when its encoder is missing, ValueError when it is another one than the card was made with.
    """
    from goodrate.models.encoder import Encoder

    assert isinstance(card, Card)
    beside = folder / card.encoder
    try:
        encoder = Encoder.load(str(beside) if beside.is_dir() else card.encoder, precision="auto")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder / CARD_FILE} names an encoder that is missing: {error}") from error
    if encoder.fingerprint != card.fingerprint:
        raise ValueError(f"{folder}: {card.encoder} is another encoder than this judge was made with; make it anew")
    return EncoderJudge(encoder, card)


def write_encoder_judge(folder: Path, card: Card) -> None:
    """Make a judge folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_judge_card(folder, card)


class EncoderJudge:
    """A text encoder with a card. Vectors of item texts are kept while it is loaded."""

    def __init__(self, encoder: Encoder, card: Card) -> None:
        self.encoder, self.card = encoder, card
        self._vectors: dict[str, np.ndarray] = {}

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
        """The card's fields of each item."""
        return field_texts(items, self.card.fields)

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the cosine of query and item."""
        return Assessment.of(label_probabilities(self.cosines(pairs), self.card.slope, self.card.cuts))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """The cosine, and the query's words that the item has and lacks."""
        rows = zip(pairs, self.reads([pair.item for pair in pairs]), self.cosines(pairs), strict=True)
        return [_explanation(pair.query, text, float(cosine)) for pair, text, cosine in rows]

    def cosines(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Cosine of each pair's query and item, (N,)."""
        if not pairs:
            return np.zeros(0)
        queries = list(dict.fromkeys(pair.query for pair in pairs))
        place = {query: row for row, query in enumerate(queries)}
        distinct = self.encoder.encode_queries([composed_text(query) for query in queries])
        query_vectors = distinct[[place[pair.query] for pair in pairs]]
        return np.einsum("nd,nd->n", query_vectors, self._item_vectors(self.reads([pair.item for pair in pairs])))

    def _item_vectors(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if len(self._vectors) + len(new) > REMEMBERED:
            self._vectors.clear()
            new = list(dict.fromkeys(texts))
        if new:
            self._vectors.update(zip(new, self.encoder.encode_items(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])


def field_texts(items: Sequence[Item], fields: Sequence[str]) -> list[str]:
    """These fields of each item in one line; of an item that is a bare text, that text."""
    from goodrate.catalog.rendering import render_rows

    rendered = iter(render_rows([item for item in items if TEXT not in item], fields))
    return [str(item[TEXT]) if TEXT in item else next(rendered) for item in items]


def label_probabilities(cosines: np.ndarray, slope: float, cuts: Sequence[float] | np.ndarray) -> np.ndarray:
    """Probabilities (N, L) of the proportional-odds model, worst label first; differences of its L - 1 sigmoids.

    >>> label_probabilities(np.array([0.5]), 10.0, [3.0, 7.0]).round(3).tolist()  # sigmoids of 2 and -2
    [[0.119, 0.762, 0.119]]
    """
    from scipy.special import expit

    at_least = expit(slope * np.asarray(cosines)[:, None] - np.asarray(cuts)[None, :])
    edges = np.hstack([np.ones((len(at_least), 1)), at_least, np.zeros((len(at_least), 1))])
    return np.maximum(edges[:, :-1] - edges[:, 1:], 0.0)


def fit_odds(cosines: np.ndarray, labels: np.ndarray, num_labels: int) -> tuple[float, tuple[float, ...]]:
    """Slope and cuts with the largest likelihood, with a weak ridge so that separable labels stay finite.

    cosines (N,), labels (N,) positions. Raises ValueError when all labels are one.
    """
    from scipy.optimize import minimize

    if len(np.unique(labels)) < 2:
        raise ValueError(f"all {len(labels)} labels are one; a cosine needs labels that differ")
    spread = max(float(np.std(cosines)), 1e-6)

    def model(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        steps = np.concatenate([parameters[1:2], np.exp(parameters[2:])])
        return float(np.exp(parameters[0])), np.cumsum(steps)

    def loss(parameters: np.ndarray) -> float:
        slope, cuts = model(parameters)
        p = label_probabilities(cosines, slope, cuts)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(p, 1e-12)).mean() + 1e-4 * (parameters**2).sum())

    start = np.concatenate([[np.log(1 / spread), float(np.mean(cosines)) / spread], np.zeros(num_labels - 2)])
    slope, cuts = model(minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000, "maxfev": 4000}).x)
    return slope, tuple(float(cut) for cut in cuts)


def cuts_without_labels(chance: np.ndarray, alike: np.ndarray, num_labels: int) -> tuple[float, tuple[float, ...]]:
    """Slope and cuts from cosines alone: the order is the encoder's, the labels are a guess that nobody checked.

    chance: cosines of unrelated queries and items; the lowest label ends at their 99 % quantile. alike: cosines of
    titles and their own items; the best label begins at their median. The others lie evenly between.
    """
    low, high = float(np.quantile(chance, CHANCE_QUANTILE)), float(np.median(alike))
    high = max(high, low + 1e-3)
    slope = 4.0 * (num_labels - 1) / (high - low)
    return slope, tuple(float(slope * cut) for cut in np.linspace(low, high, num_labels - 1))


def _explanation(query: str, item_text: str, cosine: float) -> Explanation:
    line = f"cosine {cosine:.3f}"
    steps = (ReasonStep("similarity", "Alike in meaning", line, f"{cosine:.2f} of 1"), *word_steps(query, item_text))
    return Explanation("\n".join(step.line for step in steps), steps)
