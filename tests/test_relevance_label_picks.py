"""Which pairs are picked for labelling: unsure, apart, not twice the same, a few a query, in an order with prefixes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.relevance.label_picks import WAYS, distinct_pairs, pair_vectors, pick, unsureness
from goodrate.relevance.pairs import Pair, text_item
from goodrate.scale import ESCI, FOUR_LEVEL
from serving_shop import FakeJudge


def test_unsureness_is_the_spread_of_the_gain() -> None:
    rows = np.asarray([[0.5, 0.0, 0.0, 0.5], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [np.nan] * 4])
    # gains 0, 1/7, 3/7, 1: half and half of 0 and 1 spread by 1/2, of 0 and 1/7 by 1/14
    assert unsureness(rows, FOUR_LEVEL) == pytest.approx([0.5, 1 / 14, 0.0, 0.0])
    # the same doubt weighs as the gains of the scale say: between E and I it is largest
    top = np.eye(4)[[0]] * 0.5 + np.eye(4)[[3]] * 0.5
    assert unsureness(top, ESCI) == pytest.approx([0.5])


def test_near_identical_pairs_are_there_once() -> None:
    queries = ["iphone 7", "iPhone 8", "desk", "iphone 7", "desk"]
    texts = ["Case  BLACK", "case black", "case black", "case red", "Case black"]
    assert distinct_pairs(queries, texts).tolist() == [0, 2, 3]  # iphone 7 and 8 are one group


def test_unsure_takes_the_most_unsure_and_few_of_a_query() -> None:
    unsure = np.asarray([0.5, 0.4, 0.3, 0.2, 0.1])
    queries = ["a", "a", "a", "b", "b"]
    assert pick("unsure", unsure, None, queries, 3, 2).tolist() == [0, 1, 3]
    assert pick("unsure", unsure, None, queries, 9, 1).tolist() == [0, 3]  # no more than there is


def test_diverse_picks_are_apart_and_unsure_ones_are_preferred() -> None:
    clusters = np.repeat(np.eye(4) * 10, 25, axis=0) + np.linspace(0, 0.1, 100)[:, None]
    queries = [f"q{n}" for n in range(100)]
    flat = np.full(100, 0.1)
    for seed in range(5):  # four picks of four tight clusters are one of each
        picks = pick("diverse", flat, clusters, queries, 4, 1, seed)
        assert sorted(int(row) // 25 for row in picks) == [0, 1, 2, 3]
    sure = np.where(np.arange(100) % 25 == 7, 0.5, 0.0)  # one pair of each cluster is in doubt
    picks = pick("unsure_diverse", sure, clusters, queries, 4, 1)
    assert sorted(picks.tolist()) == [7, 32, 57, 82]


@given(
    way=st.sampled_from(WAYS), count=st.integers(1, 30), per_query=st.integers(1, 4), seed=st.integers(0, 3),
    unsure=st.lists(st.floats(0, 0.5), min_size=1, max_size=20),
)  # fmt: skip
def test_picks_are_distinct_capped_repeatable_and_prefixes_of_each_other(
    way: str, count: int, per_query: int, seed: int, unsure: list[float]
) -> None:
    queries = [f"q{n % 4}" for n in range(len(unsure))]
    vectors = np.random.default_rng(0).normal(size=(len(unsure), 3))
    picks = pick(way, np.asarray(unsure), vectors, queries, count, per_query, seed).tolist()
    assert len(set(picks)) == len(picks) <= count
    assert max(np.bincount([row % 4 for row in picks])) <= per_query
    possible = sum(min(per_query, queries.count(name)) for name in set(queries))
    assert len(picks) == min(count, possible)
    again = pick(way, np.asarray(unsure), vectors, queries, max(1, count // 2), per_query, seed).tolist()
    assert again == picks[: len(again)]


def test_another_way_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of random, unsure, diverse, unsure_diverse"):
        pick("clever", np.ones(1), None, ["a"], 1, 1)


def test_vectors_are_those_of_the_judges_encoder_or_of_words() -> None:
    texts = (("red lamp", "lamp red"), ("red lamp", "chair"), ("x", "RED lamp"))
    pairs = [Pair(query, text_item(text)) for query, text in texts]

    class WithVectors(FakeJudge):
        def query_vectors(self, queries: list[str]) -> np.ndarray:
            return np.asarray([[len(query)] for query in queries])

        def item_vectors(self, items: list) -> np.ndarray:
            return np.asarray([[len(item["text"]), 1] for item in items])

    class Sum(FakeJudge):
        members = {"probe": FakeJudge(), "inner": WithVectors()}

    expected = [[8, 8, 1], [8, 5, 1], [1, 8, 1]]
    assert pair_vectors(WithVectors(), pairs).tolist() == expected == pair_vectors(Sum(), pairs).tolist()
    words = pair_vectors(FakeJudge(), pairs)
    half = words.shape[1] // 2
    assert np.abs(words[0, half:] - words[2, half:]).max() < 1e-5  # the same words, whatever their order and case
    assert np.abs(words[0, half:] - words[1, half:]).max() > 0.1
    assert np.array_equal(words, pair_vectors(FakeJudge(), pairs))
