"""Judged pairs as models read them, kept in the work folder: benchmarks of choices then need no model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goodrate.relevance.label_picks import distinct_pairs, word_vectors
from goodrate.relevance.pairs import JudgedPair
from goodrate.scale import RelevanceScale, get_scale
from lib.queue import WORK


@dataclass(frozen=True)
class ReadPairs:
    """N pairs with labels. features: (N, D) of the language model. cosine, words: (N,) of the encoder, BM25.

    vectors: (N, V) of query beside item, of their words. distinct: rows that are not near-identical to others.
    """

    pairs: list[JudgedPair]
    scale: RelevanceScale
    features: np.ndarray
    cosine: np.ndarray
    words: np.ndarray
    vectors: np.ndarray
    distinct: np.ndarray

    @classmethod
    def read(cls, name: str, model: Path, encoder: Path) -> ReadPairs:
        """From the work folder, else by the models."""
        path = WORK / "read_pairs" / f"{name}-{model.name}-{encoder.name}.npz"
        if not path.is_file():
            keep(path, name, model, encoder)
        kept = np.load(path)
        queries, texts, scale = json.loads(str(kept["texts"]))
        labels = kept["labels"].tolist()
        pairs = [JudgedPair(query, {}, label=label) for query, label in zip(queries, labels, strict=True)]
        names = list(dict.fromkeys(queries))
        place = {query: row for row, query in enumerate(names)}
        of_queries, of_items = word_vectors(names, texts)
        vectors = np.hstack([of_queries[[place[query] for query in queries]], of_items])
        arrays = (kept["features"].astype(np.float64), kept["cosine"], kept["words"])
        return cls(pairs, get_scale(scale), *arrays, vectors, distinct_pairs(queries, texts))


def keep(path: Path, name: str, model: Path, encoder: Path) -> None:
    """Read the pairs of a catalogue by both models and keep what comes out."""
    from goodrate.recipes.encoder_baseline import FIELDS
    from goodrate.recipes.ensemble_report import lexical_scores
    from goodrate.relevance.encoder_judge import field_texts
    from real_judges import ENCODER_CHARACTERS, Judged, features_of, kept_cosines

    judged = Judged.read(name)
    texts = field_texts([pair.item for pair in judged.pairs], FIELDS)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path, texts=json.dumps([[pair.query for pair in judged.pairs], texts, judged.scale.name]),
        labels=[pair.label for pair in judged.pairs], features=features_of(judged, model),
        cosine=kept_cosines(judged, encoder, characters=ENCODER_CHARACTERS),
        words=lexical_scores(judged.catalog, judged.pairs),
    )  # fmt: skip
