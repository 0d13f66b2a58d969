"""The retrieval benchmarks' own arithmetic: positives out of clicks, grades dealt anew, halves and seeds together."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from lib.shop_data import retrieval_ground  # noqa: E402
from real_rewards import difference, held_out, shuffled  # noqa: E402


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


def test_grades_are_dealt_anew_within_a_query_only() -> None:
    grades, query = np.arange(12.0), np.repeat([0, 1, 2], 4)
    dealt = shuffled(grades, query)
    assert dealt.tolist() != grades.tolist()
    assert [sorted(dealt[query == number]) for number in range(3)] == [sorted(grades[query == n]) for n in range(3)]


def test_a_difference_is_paired_by_half_and_query_over_the_mean_of_seeds() -> None:
    def result(half: int, *values: float | None) -> dict[str, object]:
        return {"settings": {"half": half}, "held out": {"ndcg@10": list(values)}}

    ours = [result(0, 0.5, None), result(0, 0.7, None), result(1, 0.2, 0.9)]
    start = [result(0, 0.5, 0.1), result(1, 0.2, 0.8), result(2, 0.0)]
    means = held_out(ours, "held out", "ndcg@10")
    assert means[0, 0] == 0.6 and np.isnan(means[0, 1]) and (means[1, 0], means[1, 1]) == (0.2, 0.9)
    # +0.1, unknown, 0, +0.1
    assert difference(ours, start, "held out", "ndcg@10").startswith("+0.067 (")
