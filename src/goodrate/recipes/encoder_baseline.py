"""The cosine of a text encoder calibrated on labels: a judge of its own, and what every other judge is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from goodrate.models.encoder import Encoder
from goodrate.models.pretrained import remembered_name
from goodrate.relevance.encoder_judge import Card, EncoderJudge
from goodrate.relevance.judge import CalibratedJudge, calibrated_judge
from goodrate.relevance.odds import cuts_without_labels, fit_odds
from goodrate.relevance.pairs import Item, JudgedPair, Pair, gold_labels
from goodrate.relevance.text_vectors import shared_vectors
from goodrate.scale import RelevanceScale, scale_entry

FIELDS = ("title", "description")  # what it reads of an item where nobody says otherwise
CHARACTERS = 200  # of them where it is one of several voices: long descriptions drown the title
NO_LABELS = "no label was read: trust the order, not the tiers"


def encoder_card(
    name: str, encoder: Encoder, scale: RelevanceScale, fields: Sequence[str] = FIELDS, slope: float = 1.0,
    cuts: tuple[float, ...] | None = None, labelled: int = 0,
) -> Card:  # fmt: skip
    """The card of an encoder's judge. name: folder or hub id; a folder is remembered by its whole path."""
    return Card(
        scale=scale_entry(scale), encoder=remembered_name(name), fingerprint=encoder.fingerprint, slope=slope,
        cuts=cuts or (0.0,) * (len(scale) - 1), fields=tuple(fields), labelled_pairs=labelled,
    )  # fmt: skip


def fitted_card(
    name: str, encoder: Encoder, scale: RelevanceScale, pairs: Sequence[Pair], labels: np.ndarray,
    fields: Sequence[str] = FIELDS, characters: int = 0,
) -> Card:  # fmt: skip
    """The card with the proportional-odds model of labelled pairs. Raises ValueError when all labels are one.

    characters: of an item's text that it reads; 0 = all.
    """
    card = replace(encoder_card(name, encoder, scale, fields), characters=characters)
    slope, cuts = fit_odds(EncoderJudge(shared_vectors(encoder), card).cosines(pairs), labels, len(scale))
    return replace(card, slope=slope, cuts=cuts, labelled_pairs=len(pairs))


def fitted_start(name: str, scale: RelevanceScale, pairs: Sequence[JudgedPair], fields: Sequence[str]) -> EncoderJudge:
    """The calibrated cosine that a judge starts from; it reads the first CHARACTERS of an item. As fitted_card."""
    encoder = Encoder.load(name, precision="auto")
    vectors = shared_vectors(encoder)
    return EncoderJudge(vectors, fitted_card(name, encoder, scale, pairs, gold_labels(pairs), fields, CHARACTERS))


def guessed_odds(
    scores: Callable[[list[Pair]], np.ndarray], items: Sequence[Item], labels: int, seed: int, sample: int
) -> tuple[float, tuple[float, ...]]:
    """Slope and cuts (L - 1) without a label: titles of the catalogue stand for queries (cuts_without_labels).

    scores: (N,) of pairs. sample: items, at most.
    """
    rng = np.random.default_rng(seed)
    chosen = [items[place] for place in rng.permutation(len(items))[:sample]]
    others = chosen[1:] + chosen[:1]
    alike = scores([Pair(str(item["title"]), item) for item in chosen])
    chance = scores([Pair(str(item["title"]), other) for item, other in zip(chosen, others, strict=True)])
    return cuts_without_labels(chance, alike, labels)


def fitted_judge(name: str, scale: RelevanceScale, pairs: Sequence[Pair], labels: np.ndarray) -> CalibratedJudge:
    """The judge of an encoder calibrated on these pairs. FileNotFoundError for a missing encoder; as fitted_card."""
    encoder = Encoder.load(name, precision="auto")
    card = fitted_card(name, encoder, scale, pairs, labels)
    return calibrated_judge(EncoderJudge(encoder, card), card)
