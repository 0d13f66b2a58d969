"""A judge of one's own: a function's probabilities, what is refused of them, and its stored verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from goodrate.relevance.function_judge import FunctionJudge
from goodrate.relevance.judge import CalibratedJudge, as_calibrated, calibrated
from goodrate.relevance.pairs import Item, Pair, text_item
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.relevance.verdicts import Explanation, ReasonStep, Verdict
from goodrate.scale import FOUR_LEVEL, WANDS

ITEMS = [{"id": "a", "title": "red lamp"}, {"id": "b", "title": "chair"}]
NAN = [float("nan")] * 3


class Shop:
    """A function that counts its calls: an item with the query in its title is exact with 0.8."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, query: str, items: Sequence[Item]) -> Any:
        self.asked.append((query, len(items)))
        return [[0.1, 0.1, 0.8] if query in item["title"] else [0.6, 0.4, 0.0] for item in items]


def test_a_judge_of_ones_own_by_hand() -> None:
    shop = Shop()
    judge = as_calibrated(FunctionJudge(shop, "wands", "1"))
    # gains 0, 0.5, 1: 0.05 + 0.8 and 0.2; p(irrelevant) = 0.6 > 0.5
    assert judge.judge("lamp", ITEMS) == [
        Verdict("exact", (0.1, 0.1, 0.8), pytest.approx(0.85), "Good"),
        Verdict("irrelevant", (0.6, 0.4, 0.0), pytest.approx(0.2), "Bad"),
    ]
    assert (judge.name, judge.scale, judge.temperature) == ("FunctionJudge", WANDS, 1.0)
    assert as_calibrated(judge) is judge
    pairs = [Pair("lamp", ITEMS[0]), Pair("chair", ITEMS[0]), Pair("lamp", ITEMS[1])]
    rows = judge.pair_probabilities(pairs)
    assert rows[:, 2].tolist() == [0.8, 0.0, 0.0] and shop.asked[1:] == [("lamp", 2), ("chair", 1)]
    assert judge.judge("lamp", []) == [] and len(shop.asked) == 3  # nothing to ask


def test_a_temperature_sharpens_or_flattens() -> None:
    judge = CalibratedJudge(FunctionJudge(Shop(), "wands", "1"), temperature=2.0)
    # square roots 0.3162, 0.3162, 0.8944 over their sum 1.5269
    roots = np.sqrt([0.1, 0.1, 0.8])
    assert judge.probabilities("lamp", ITEMS)[0] == pytest.approx(roots / roots.sum())
    assert roots.sum() == pytest.approx(1.5269, abs=1e-4)
    assert judge.probabilities("lamp", ITEMS)[1, 2] == pytest.approx(0)  # what was impossible stays so
    rows = np.asarray([[0.2, 0.8], [np.nan, np.nan]])
    assert calibrated(rows, 1.0) is rows and np.isnan(calibrated(rows, 3.0)[1]).all()


def test_items_may_be_a_frame_or_texts() -> None:
    judge = as_calibrated(FunctionJudge(lambda query, items: [[0.0, 0.0, 1.0]] * len(items), "wands", "1"))
    frame = pl.DataFrame({"id": ["a"], "title": ["red lamp"]})
    assert [pair.item["title"] for pair in judge.pairs("lamp", frame)] == ["red lamp"]
    assert judge.pairs("lamp", ["red lamp"]) == [Pair("lamp", text_item("red lamp"))]
    assert len(judge.judge("lamp", frame)) == 1
    for single in ("red lamp", ITEMS[0]):
        with pytest.raises(ValueError, match=r"expected a list of items, found a single one; write \[item\]: "):
            judge.judge("lamp", single)


def test_rows_of_nan_are_failures() -> None:
    judge = as_calibrated(FunctionJudge(lambda query, items: [NAN, [0.0, 1.0, 0.0]], "wands", "1"))
    assert [one.status for one in judge.judge("lamp", ITEMS)] == ["no_probabilities", "ok"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0.5, 0.5, 0.0]], r"gave shape \(1, 3\) for 'lamp'; expected \(2, 3\)"),
        ([[0.5, 0.5], [0.5, 0.5]], r"gave shape \(2, 2\) for 'lamp'; expected \(2, 3\)"),
        ([0.5, 0.5], r"gave shape \(2,\) for 'lamp'; expected \(2, 3\)"),
        ([[0.5, 0.4, 0.0], NAN], r"gave rows for 'lamp' that are no probabilities \(sum to 1\)"),
        ([[1.5, -0.5, 0.0], NAN], r"gave rows for 'lamp' that are no probabilities \(sum to 1\)"),
    ],
)
def test_what_is_no_probabilities_is_refused(rows: Any, message: str) -> None:
    judge = FunctionJudge(lambda query, items: rows, WANDS, "1")
    with pytest.raises(ValueError, match=message):
        judge.assess([Pair("lamp", item) for item in ITEMS])


def test_reasons_of_ones_own() -> None:
    why = FunctionJudge(Shop(), "wands", "1", lambda query, item, label: f"{item['title']} is {label} for {query}")
    told = as_calibrated(why).judge("lamp", ITEMS[:1], reasons=True)[0]
    text = "red lamp is exact for lamp"
    assert told.explanation == Explanation(text, (ReasonStep("reason", "Reason", text, text),))
    silent = as_calibrated(FunctionJudge(Shop(), "wands", "1")).judge("lamp", ITEMS[:1], reasons=True)[0]
    assert silent.explanation == Explanation("", status="no_reasons")


def test_verdicts_are_stored_by_version_and_row(tmp_path: Path) -> None:
    shop = Shop()
    with VerdictStore(tmp_path / "v.sqlite") as store:
        first, second = (CalibratedJudge(FunctionJudge(shop, "wands", v), store=store) for v in ("1", "2"))
        fresh, again = first.judge("lamp", ITEMS), first.judge("lamp", ITEMS)
        assert shop.asked == [("lamp", 2)] and [one.cached for one in again] == [True, True]
        assert [Verdict(**{**vars(one), "cached": True}) for one in fresh] == again
        first.judge("lamp", [{**ITEMS[0], "stock": 3}])  # any change of the row is a new pair
        assert shop.asked[1:] == [("lamp", 1)]
        assert not second.judge("lamp", ITEMS)[0].cached and shop.asked[2:] == [("lamp", 2)]
        assert store.counts() == {"ok": 5}
    assert FunctionJudge(shop, FOUR_LEVEL, "1").identity == {"function": "1"}
