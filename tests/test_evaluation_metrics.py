"""Ranking metrics: numbers by hand, what is undefined, and what must not matter."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.evaluation.metrics import evaluate_run, integer_gains, parse_metric, rank_items
from goodrate.scale import ESCI, ESCI_SWAPPED, FOUR_LEVEL, GRADED_0_3, WANDS, RelevanceScale

EVERY = ["ndcg@10", "ndcg", "mrr@10", "mrr", "recall@2", "recall", "goodrate@2", "goodrate", "judged@2", "judged"]


def listed(*items: str) -> list[tuple[str, float]]:
    """Items in this order as scores."""
    return [(item, -float(place)) for place, item in enumerate(items)]


def value(run, qrels, metric: str, scale: RelevanceScale = GRADED_0_3, **options) -> float | None:
    return evaluate_run({"q": run}, {"q": qrels}, scale, [metric], **options)[metric][0]


def test_the_swap_of_esci_gains_changes_everything() -> None:
    """C, C, S, S with the paper's gains, in hundredths C 1, S 10.

    dcg = 1 + 1/log2(3) + 10/2 + 10/log2(5) = 10.938; ideal 10 + 10/log2(3) + 1/2 + 1/log2(5) = 17.240; 0.634.
    """
    labels = {"c1": "C", "c2": "C", "s1": "S", "s2": "S"}
    run = listed("c1", "c2", "s1", "s2")
    paper = value(run, {item: ESCI.index(label) for item, label in labels.items()}, "ndcg", ESCI)
    swapped = value(run, {item: ESCI_SWAPPED.index(label) for item, label in labels.items()}, "ndcg", ESCI_SWAPPED)
    dcg = 1 + 1 / log2(3) + 10 / 2 + 10 / log2(5)
    assert paper == pytest.approx(dcg / (10 + 10 / log2(3) + 1 / 2 + 1 / log2(5)), abs=1e-6)
    assert round(paper, 3) == 0.634 and swapped == 1.0


def test_numbers_by_hand() -> None:
    """Run: x (grade 1), u (unjudged), a (grade 3); b (grade 2) was not found. Gains 0, 1, 3, 7; good: 2 and 3."""
    qrels = {"a": 3, "b": 2, "x": 1}
    table = evaluate_run({"q": listed("x", "u", "a")}, {"q": qrels}, GRADED_0_3, EVERY)
    found = table.row(0, named=True)
    ideal = 7 + 3 / log2(3) + 1 / 2  # over all judged items, b too
    assert found["ndcg"] == found["ndcg@10"] == pytest.approx((1 + 7 / 2) / ideal, abs=1e-6)
    assert found["mrr"] == pytest.approx(1 / 3)  # the first good one is third
    assert (found["recall@2"], found["recall"]) == (0.0, 0.5)  # a of a and b
    assert (found["goodrate@2"], found["goodrate"]) == (0.0, 0.5)  # x; x and a
    assert (found["judged@2"], found["judged"]) == (0.5, pytest.approx(2 / 3))
    assert (found["results"], found["missing"], found["single_grade"]) == (3, False, False)


def test_judged_only_takes_the_unjudged_out_first() -> None:
    """x, a are then first and second: dcg 1 + 7/log2(3)."""
    qrels, run = {"a": 3, "b": 2, "x": 1}, listed("u", "x", "v", "a")
    ideal = 7 + 3 / log2(3) + 1 / 2
    assert value(run, qrels, "ndcg", judged_only=True) == pytest.approx((1 + 7 / log2(3)) / ideal, abs=1e-6)
    assert value(run, qrels, "goodrate@2", judged_only=True) == 0.5
    assert value(run, qrels, "goodrate@2") == 0.0  # only x is judged there
    assert value(run, qrels, "judged@2") == 0.5


def test_ties_go_by_id_ascending_also_beyond_float32() -> None:
    """The library would put b first, and cannot tell 1 from 1 + 1e-9."""
    qrels = {"a": 3, "b": 0}
    assert value([("b", 1.0), ("a", 1.0)], qrels, "mrr") == 1.0
    assert value([("b", 0.0), ("a", -0.0)], qrels, "mrr") == 1.0
    assert value([("b", 1.0 + 1e-9), ("a", 1.0)], qrels, "mrr") == 0.5


def test_unknown_is_not_zero_and_missing_is() -> None:
    qrels = {"none": {"a": 0}, "gain": {"a": 1}, "absent": {"a": 3, "b": 0}, "fresh": {"a": 3}}
    run = {"none": listed("a"), "gain": listed("a"), "fresh": listed("new"), "unasked": listed("a")}
    table = evaluate_run(run, qrels, GRADED_0_3, ["ndcg", "mrr", "recall@5", "goodrate@5", "judged@5"])
    rows = {row["query_id"]: row for row in table.iter_rows(named=True)}
    assert list(rows) == list(qrels)  # a query that nobody judged is no row
    assert (rows["none"]["ndcg"], rows["none"]["mrr"], rows["none"]["goodrate@5"]) == (None, None, 0.0)
    assert (rows["gain"]["ndcg"], rows["gain"]["recall@5"]) == (1.0, None)  # grade 1 has a gain but is not good
    assert [rows["absent"][m] for m in ("ndcg", "mrr", "recall@5", "goodrate@5", "judged@5")] == [0.0] * 5
    assert rows["absent"]["missing"] and not rows["absent"]["single_grade"] and rows["gain"]["single_grade"]
    assert (rows["fresh"]["ndcg"], rows["fresh"]["goodrate@5"], rows["fresh"]["judged@5"]) == (0.0, None, 0.0)


def test_positive_labels_need_not_be_the_top_ones() -> None:
    """On the swapped scale complement has more gain than substitute, and is still not good."""
    qrels = {"s": ESCI_SWAPPED.index("S"), "c": ESCI_SWAPPED.index("C")}
    assert value(listed("c", "s"), qrels, "mrr", ESCI_SWAPPED) == 0.5
    assert value(listed("c", "s"), qrels, "ndcg", ESCI_SWAPPED) == 1.0


def test_an_empty_run() -> None:
    table = evaluate_run({}, {"q": {"a": 3}}, GRADED_0_3, EVERY)
    assert table["missing"].to_list() == [True] and [table[m][0] for m in EVERY] == [0.0] * len(EVERY)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown metric 'ndgc@10'; known: ndcg, mrr, recall, goodrate, judged"):
        parse_metric("ndgc@10")
    for wrong in ("ndcg@", "ndcg@0", "ndcg@-1", "ndcg@ten"):
        with pytest.raises(ValueError, match="unknown metric"):
            parse_metric(wrong)
    with pytest.raises(ValueError, match="item 'a' of query 'q' has a score that is not a number"):
        value([("a", float("nan"))], {"a": 1}, "ndcg")
    with pytest.raises(ValueError, match="item 'a' of query 'q' is listed twice"):
        value([("a", 1.0), ("a", 2.0)], {"a": 1}, "ndcg")


def test_gains_become_whole() -> None:
    assert [integer_gains(scale) for scale in (ESCI, WANDS, FOUR_LEVEL)] == [[0, 1, 10, 100], [0, 1, 2], [0, 1, 3, 7]]


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    scores=st.lists(st.floats(-5, 5), min_size=12, max_size=12),
    unjudged=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_ndcg_is_the_formula_whatever_the_order_of_the_input(labels, scores, unjudged, seed) -> None:
    """Against a plain computation; the order of the rows and unjudged items (condensed) change nothing."""
    qrels = {f"i{n}": label for n, label in enumerate(labels)}
    run = [(item, scores[n]) for n, item in enumerate(qrels)]
    shuffled = [run[n] for n in np.random.default_rng(seed).permutation(len(run))]
    shuffled += [(f"new{n}", scores[n]) for n in range(unjudged)]
    gain = {item: GRADED_0_3.gains[label] for item, label in qrels.items()}
    order = [gain[item] for item, _ in sorted(run, key=lambda pair: (-pair[1], pair[0]))]
    discount = 1 / np.log2(np.arange(len(order)) + 2)
    ideal = sorted(order, reverse=True) @ discount
    found = value(shuffled, qrels, "ndcg", judged_only=True)
    assert found is None if ideal == 0 else found == pytest.approx(order @ discount / ideal, abs=1e-5)


def test_ranking_lists_labels_and_leaves_unjudged_null() -> None:
    frame = rank_items({"q": listed("u", "a")}, {"q": {"a": 2}})
    assert frame.rows() == [("q", "u", 1, None), ("q", "a", 2, 2)]
