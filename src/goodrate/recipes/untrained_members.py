"""The members of a sum that nobody trains: cosines of text encoders to a query and to what it finds, a query's words,
its exclusions and measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.recipes.encoder_baseline import CHARACTERS, FIELDS, encoder_card
from goodrate.recipes.score_sum import Member
from goodrate.relevance import constraint_judge, encoder_judge, neighbourhood_judge, words_judge
from goodrate.relevance.constraint_judge import ConstraintJudge
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.neighbourhood_judge import NeighbourhoodJudge, sampled_vectors
from goodrate.relevance.pairs import Pair
from goodrate.relevance.text_vectors import TextVectors
from goodrate.relevance.words_judge import WordCounts, WordsJudge
from goodrate.retrieval.languages import rules_language
from goodrate.scale import RelevanceScale, scale_entry

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.models.encoder import Encoder

COSINE, NEIGHBOURS, WORDS, CONSTRAINTS = "cosine", "neighbours", "words", "constraints"
# Weights that a sum starts from, in spreads; those of the cosines together are 1. Good for both catalogues of
# benchmarks/results/real_judges.md, and flat there: half or twice as much hardly moves nDCG.
USUAL = {NEIGHBOURS: 0.25, WORDS: 0.5, CONSTRAINTS: 2.0, "probe": 0.75}
# Words and constraints have scales of their own, the same in every catalogue: (mean, spread).
SCALES = {WORDS: (0.5, 0.3), CONSTRAINTS: (0.0, 1.0)}

UntrainedJudge = EncoderJudge | NeighbourhoodJudge | WordsJudge | ConstraintJudge


def untrained_judges(
    encoders: Mapping[str, Encoder], catalog: Catalog, scale: RelevanceScale, language: str = "en",
    fields: Sequence[str] = FIELDS, characters: int = CHARACTERS, neighbours: bool = False,
) -> dict[str, UntrainedJudge]:  # fmt: skip
    """Judges by the names of their members, with odds that are not fitted.

    encoders: by folder or hub id. catalog: whose words are counted. characters: of an item that encoders read.
    neighbours: whether what a query finds is a member too, for which the catalogue's items are encoded.
    """
    judges: dict[str, UntrainedJudge] = {}
    for number, (name, encoder) in enumerate(encoders.items(), 1):
        card = replace(encoder_card(name, encoder, scale, fields), characters=characters)
        vectors, last = TextVectors(encoder), "" if number == 1 else str(number)
        judges[COSINE + last] = EncoderJudge(vectors, card)
        if neighbours:
            judges[NEIGHBOURS + last] = _neighbours(vectors, card, catalog)
    odds: dict[str, Any] = {"scale": scale_entry(scale), "slope": 1.0, "cuts": (0.0,) * (len(scale) - 1)}
    words = words_judge.Card(**odds, language=language)
    judges[WORDS] = WordsJudge(WordCounts.of(encoder_judge.field_texts(catalog.to_rows(), words.fields)), words)
    if rules_language(language):
        judges[CONSTRAINTS] = ConstraintJudge(constraint_judge.Card(**odds, language=language))
    return judges


def _neighbours(vectors: TextVectors, cosine: encoder_judge.Card, catalog: Catalog) -> NeighbourhoodJudge:
    """The judge by what a query finds, which reads what the cosine reads."""
    card = neighbourhood_judge.Card(
        scale=cosine.scale, encoder=cosine.encoder, fingerprint=cosine.fingerprint, slope=cosine.slope,
        cuts=cosine.cuts, fields=cosine.fields, characters=cosine.characters,
    )  # fmt: skip
    return NeighbourhoodJudge(vectors, sampled_vectors(vectors, catalog.to_rows(), card), card)


def untrained_members(judges: Mapping[str, UntrainedJudge], pairs: Sequence[Pair]) -> dict[str, Member]:
    """The scores of pairs by each judge, and how they are added."""
    cosines = sum(isinstance(judge, EncoderJudge) for judge in judges.values())
    return {name: _member(name, judge.scores(pairs), cosines) for name, judge in judges.items()}


def _member(name: str, scores: np.ndarray, cosines: int) -> Member:
    if name in SCALES:
        return Member(scores, *SCALES[name], USUAL[name])
    return Member.of(scores, (USUAL[NEIGHBOURS] if name.startswith(NEIGHBOURS) else 1.0) / cosines)


def write_member(
    folder: Path, judge: UntrainedJudge, slope: float, cuts: tuple[float, ...], labelled_pairs: int
) -> None:
    """Write a member's own judge folder, with odds."""
    fitted: dict[str, Any] = {"slope": slope, "cuts": cuts, "labelled_pairs": labelled_pairs}
    if isinstance(judge, EncoderJudge):
        encoder_judge.write_encoder_judge(folder, replace(judge.card, **fitted))
    elif isinstance(judge, NeighbourhoodJudge):
        neighbourhood_judge.write_neighbourhood_judge(folder, replace(judge.card, **fitted), judge.items)
    elif isinstance(judge, WordsJudge):
        words_judge.write_words_judge(folder, replace(judge.card, **fitted), judge.counts)
    else:
        constraint_judge.write_constraint_judge(folder, replace(judge.card, **fitted))
