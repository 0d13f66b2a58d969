"""The retrieval benchmarks' own arithmetic: positives out of clicks."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from lib.shop_data import retrieval_ground  # noqa: E402


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
