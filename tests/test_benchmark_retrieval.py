"""The retrieval benchmarks' own arithmetic: queries made of a catalogue, cut vectors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import retrieval_chorus  # noqa: E402
import retrieval_stage1  # noqa: E402


def test_catalogue_queries_are_words_of_an_item_and_like_no_held_out_query() -> None:
    nouns = ["lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove"]
    titles = [f"Velto {noun} number {n}" for n, noun in enumerate(nouns * 3)]
    attributes = ['{"colour":"Amber"}'] * 12 + ["{}"] * 12
    frame = pl.DataFrame({"title": titles, "brand": "Kira", "attributes": attributes})
    texts = [f"{title} Kira Amber" for title in titles]
    examples = retrieval_chorus.catalogue_queries(frame, texts, ["lamps", "kira tent"], 12, seed=0)
    assert len(examples) == 12 == len({example.text for example in examples})
    assert not {"lamp", "tent kira", "kira tent"} & {example.text for example in examples}
    for example in examples:
        holding = {n for n, text in enumerate(texts) if all(word in text.lower() for word in example.text.split())}
        assert example.known == holding | {example.positive} and example.positive in holding
    again = retrieval_chorus.catalogue_queries(frame, texts, ["lamps", "kira tent"], 12, seed=0)
    assert again == examples


def test_cut_vectors_are_ranked_by_cosine() -> None:
    # cut to one float the two items are equal in direction; the first by position wins, whatever its length
    queries, items = np.asarray([[1.0, 0.0]]), np.asarray([[0.1, 0.9], [0.8, 0.1]])
    good = np.asarray([[False, True]])
    whole = retrieval_stage1.metrics(queries, items, good)
    cut = retrieval_stage1.metrics(queries[:, :1], items[:, :1], good)
    assert whole["hitrate@100"] == cut["hitrate@100"] == [1.0] and whole["goodrate@10"] == [0.5]


def test_a_query_of_several_splits_counts_once() -> None:
    results = [
        {"seed": 0, "by_query": {"ndcg@10": {"a": 1.0, "b": 0.5}}},
        {"seed": 1, "by_query": {"ndcg@10": {"b": 0.7, "c": None}}},
    ]
    means = retrieval_chorus.by_query(results, "ndcg@10")
    assert means["a"] == 1 and means["b"] == pytest.approx(0.6) and np.isnan(means["c"])
    first = [{"seed": 0, "by_query": {"ndcg@10": {"a": 0.5, "b": 0.5}}}, {"seed": 1, "by_query": {"ndcg@10": {"b": 0}}}]
    cells = retrieval_chorus.compared(results[:1], first, "ndcg@10")
    assert cells[1].startswith("+0.250")  # a +0.5, b 0.0; the split that the arm lacks is left out
