"""A text encoder that reads query and item together, as a judge: a linear head gives a logit for every label.

Query and item stand in one sequence, so that "without" in a query can mean something for a word of the item, which no
cosine of two vectors can say; in return nothing is computed ahead (models.cross_encoder).

Its numbers may be a correction of another judge's: the calibrated cosine of a text encoder, in the folder START beside
the weights. With numbers of 0 it is that judge. A folder without START is of a cross-encoder that judges alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from goodrate.catalog.normal_form import composed_text
from goodrate.relevance.calibration import softmax
from goodrate.relevance.encoder_judge import Card as EncoderCard
from goodrate.relevance.encoder_judge import EncoderJudge, field_texts, write_own_encoder
from goodrate.relevance.encoder_judge import open_kind as open_encoder_judge
from goodrate.relevance.judge_card import JudgeCard, read_judge_card, require_count, write_judge_card
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import explained
from goodrate.relevance.verdicts import NO_PROBABILITIES, OK, TOO_LONG, Explanation, ReasonStep
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from goodrate.models.cross_encoder import CrossEncoder, PairTokens

START = "start"  # the folder of the judge whose logits the numbers are added to
FLOOR = 1e-9  # of a probability of the start: its logit stays finite


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """max_tokens: of query, item and the encoder's marks together; an item's text loses its end. fields: what it reads
    of an item. labelled_pairs: how many it was trained on.
    """

    kind: ClassVar[str] = "cross_encoder"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "max_tokens"})
    max_tokens: int
    fields: tuple[str, ...] = ("title", "description")
    labelled_pairs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from goodrate.catalog.rendering import JUDGE_FIELDS, check_fields

        check_fields(self.fields, JUDGE_FIELDS)
        require_count("max_tokens", self.max_tokens, least=1)
        require_count("labelled_pairs", self.labelled_pairs, least=0, most=10**12)


def open_kind(folder: Path, card: JudgeCard) -> CrossEncoderJudge:
    """The judge of a folder. Raises FileNotFoundError, ValueError naming the file that is missing or broken."""
    from goodrate.models.cross_encoder import CrossEncoder
    from goodrate.models.pretrained import folder_hash

    assert isinstance(card, Card)
    model = CrossEncoder.load(folder, len(card.relevance_scale), card.max_tokens, precision="auto")
    return CrossEncoderJudge(model, card, folder_hash(folder), _start(folder / START, card))


def _start(folder: Path, card: Card) -> EncoderJudge | None:
    """The judge that the numbers are added to; None for a folder that has none."""
    if not folder.is_dir():
        return None
    own = read_judge_card(folder)
    if not isinstance(own, EncoderCard) or own.relevance_scale.labels != card.relevance_scale.labels:
        raise ValueError(f"{folder}: expected a judge of kind encoder with the labels {card.relevance_scale.labels}")
    return open_encoder_judge(folder, own)


def write_cross_encoder_judge(
    folder: Path, card: Card, model: CrossEncoder, start: EncoderJudge | None = None
) -> None:  # fmt: skip
    """Fill a folder with the model and its card, and with the judge that it starts from."""
    model.save(folder)
    write_judge_card(folder, card)
    if start is not None:
        write_own_encoder(folder / START, start)


def start_logits(start: EncoderJudge, pairs: Sequence[Pair]) -> np.ndarray:
    """Logits (N, L) of the start, which the numbers are added to: the logarithms of its probabilities."""
    return np.log(np.maximum(start.assess(pairs).probabilities, FLOOR))


def pair_tokens(
    model: CrossEncoder, queries: Sequence[str], items: Sequence[Item], fields: Sequence[str]
) -> list[PairTokens | None]:
    """Each query and item as the model reads them, in training as in judging; None: the query leaves no room."""
    return model.tokenize([composed_text(query) for query in queries], field_texts(items, fields))


class CrossEncoderJudge:
    """A cross-encoder with a card. fingerprint: hash of its files. start: what its numbers are added to."""

    def __init__(
        self, model: CrossEncoder, card: Card, fingerprint: str = "", start: EncoderJudge | None = None
    ) -> None:
        self.model, self.card, self.fingerprint, self.start = model, card, fingerprint, start

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """The weights, their arithmetic, how much is read, and what they start from."""
        own = {"model": self.fingerprint, "precision": self.model.encoder.precision, "max_tokens": self.card.max_tokens}
        return own if self.start is None else {**own, "start": dict(self.start.identity)}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The card's fields of each item, and those that the start reads where they are others."""
        own = field_texts(items, self.card.fields)
        if self.start is None or self.start.card.fields == self.card.fields:
            return own
        return [f"{mine} | {its}" for mine, its in zip(own, self.start.reads(items), strict=True)]

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Softmax over the head's logits and the start's; a query that leaves no room for an item is a failure."""
        queries, items = [pair.query for pair in pairs], [pair.item for pair in pairs]
        tokens = pair_tokens(self.model, queries, items, self.card.fields)
        numbers = self.model.numbers(tokens)
        probabilities = softmax(numbers if self.start is None else numbers + start_logits(self.start, pairs))
        broken = np.isnan(probabilities).any(axis=1)
        status = [
            TOO_LONG if one is None else NO_PROBABILITIES if bad else OK
            for one, bad in zip(tokens, broken.tolist(), strict=True)
        ]
        whole = Assessment.of(probabilities, status)
        return replace(whole, item_cut=tuple(one is not None and one.cut for one in tokens))

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """What orders: the expected gain (N,); NaN where it failed."""
        return self.scale.expected_gain(self.assess(pairs).probabilities)

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """How probable the label is, and the query's words that the item has and lacks. It has no reason to give."""
        texts = field_texts([pair.item for pair in pairs], self.card.fields)
        rows = zip(pairs, texts, labels, self.assess(pairs).probabilities, strict=True)
        return [
            _explanation(p.query, text, self.scale.labels[label], float(row[label])) for p, text, label, row in rows
        ]


def _explanation(query: str, item_text: str, label: str, probability: float) -> Explanation:
    line = f"{label} {probability:.3f}"
    step = ReasonStep("cross_encoder", "What was read in query and item", line, f"{label}: {probability:.2f} of 1")
    return explained([step], query, item_text)
