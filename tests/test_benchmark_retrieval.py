"""The retrieval benchmarks' own arithmetic: cut vectors, positives out of clicks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import retrieval_stage1  # noqa: E402
from lib.shop_data import retrieval_ground  # noqa: E402


def test_cut_vectors_are_ranked_by_cosine() -> None:
    # cut to one float the two items are equal in direction; the first by position wins, whatever its length
    queries, items = np.asarray([[1.0, 0.0]]), np.asarray([[0.1, 0.9], [0.8, 0.1]])
    good = np.asarray([[False, True]])
    whole = retrieval_stage1.metrics(queries, items, good)
    cut = retrieval_stage1.metrics(queries[:, :1], items[:, :1], good)
    assert whole["hitrate@100"] == cut["hitrate@100"] == [1.0] and whole["goodrate@10"] == [0.5]


def test_a_query_s_most_clicked_item_is_its_positive() -> None:
    ground = retrieval_ground(300, 60)
    clicks: dict[str, dict[int, float]] = {}
    place = {item: position for position, item in enumerate(ground.shop.catalog.ids)}
    for query, item, count in ground.shop.clicks():
        clicks.setdefault(query, {})[place[item]] = count
    train = {ground.shop.queries[q].text for q in ground.shop.queries_of("train").tolist()}
    assert {example.text for example in ground.examples} == clicks.keys() & train
    for example, row in zip(ground.examples, ground.rows.tolist(), strict=True):
        own = clicks[example.text]
        assert example.known == own.keys() and own[example.positive] == max(own.values())
        assert ground.shop.queries[row].text == example.text
