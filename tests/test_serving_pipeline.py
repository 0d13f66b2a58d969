"""The pipeline: order by tier and gain, what is unknown, depth, latency."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate.ranking.results import rank
from goodrate.relevance.pairs import text_item
from goodrate.relevance.verdicts import Verdict
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import IndexUnavailable, NoJudge, SearchRequest, UnknownItem
from serving_shop import FakeSearcher, FakeStore, Hit, fake_judge, fake_pipeline


def test_ranks_by_tier_then_gain_and_keeps_the_unknown_above_bad() -> None:
    response = fake_pipeline(fake_judge()).search(SearchRequest("red running shoes"))
    # gains 0, 1, 3, 7 over 7: trail (0.1 + 3 * 0.4 + 7 * 0.5) / 7 = 4.8 / 7; road (3 * 0.2 + 7 * 0.8) / 7 = 6.2 / 7
    assert [r.item["id"] for r in response.results] == ["a2", "a1", "a3", "a4", "a5"]
    gains = [r.verdict.expected_gain if r.verdict else None for r in response.results]
    assert gains[:2] == pytest.approx([6.2 / 7, 4.8 / 7]) and gains[3] is None
    assert [r.retrieval_rank for r in response.results] == [2, 1, 3, 4, 5]
    assert (response.retrieved, response.judged, response.failed, response.cached) == (5, 4, 1, 0)
    assert {"retrieve", "judge", "total"} <= response.latency_ms.keys()


def test_depth_limits_the_judge_and_k_the_answer() -> None:
    searcher = FakeSearcher()
    pipeline = SearchPipeline(FakeStore(), searcher, fake_judge())
    response = pipeline.search(SearchRequest("shoes", k=3, depth=1))
    # what is judged is ranked by itself; the others follow
    assert searcher.asked == [("shoes", 1, None, "hybrid"), ("shoes", 100, None, "hybrid")]
    assert [r.verdict is not None for r in response.results] == [True, False, False]
    response = pipeline.search(SearchRequest("shoes", k=1, depth=4))
    # the best of the four judged, not the first retrieved
    assert searcher.asked[-1][1] == 4 and [r.item["id"] for r in response.results] == ["a2"]


def test_a_second_search_is_served_from_stored_verdicts(tmp_path: Path) -> None:
    pipeline = fake_pipeline(fake_judge(tmp_path / "v.sqlite"))
    first = pipeline.search(SearchRequest("shoes"))
    again = pipeline.search(SearchRequest("shoes"))
    # four verdicts and one failure: a failure is remembered as one
    assert (first.cached, again.cached) == (0, 5) and (again.judged, again.failed) == (4, 1)


def test_without_a_judge_retrieval_order_stands() -> None:
    pipeline = fake_pipeline()
    response = pipeline.search(SearchRequest("shoes", k=2))
    assert [(r.item["id"], r.verdict) for r in response.results] == [("a1", None), ("a2", None)]
    assert response.results[0].channels["lexical"] == {"rank": 1, "score": 8.0, "share": 0.75}
    with pytest.raises(NoJudge, match="--model"):
        pipeline.explain("shoes", text_item("text"))


def test_an_item_that_is_removed_while_it_is_found_is_searched_for_again() -> None:
    class Changing(FakeStore):
        """Its first answers come after an item was removed; `failing` of them."""

        failing = 1

        def items(self, ids: Sequence[str]) -> pl.DataFrame:
            self.failing -= 1
            return super().items([*ids, "removed"] if self.failing >= 0 else ids)

    store, searcher = Changing(), FakeSearcher()
    assert len(SearchPipeline(store, searcher).search(SearchRequest("shoes"))) == 5 and len(searcher.asked) == 2
    store.failing = 99
    with pytest.raises(IndexUnavailable, match="cannot be searched: unknown ids"):
        SearchPipeline(store, searcher).search(SearchRequest("shoes"))


def test_nothing_found_and_wrong_input() -> None:
    pipeline = fake_pipeline(fake_judge())
    assert pipeline.need_judge().inner.reads([pipeline.item("a5")]) == [
        "Red kettle ; brand Brumm ; category kettles ; litres 1.5 ; Boils water."
    ]
    assert pipeline.search(SearchRequest("nothing")).results == []
    for request, message in [
        (SearchRequest("  "), "query is empty"),
        (SearchRequest("x", mode="magic"), "hybrid, lexical, dense"),
        (SearchRequest("x", k=0), "k is 0"),
        (SearchRequest("x", where="bad"), "no column named bad"),
    ]:
        with pytest.raises(ValueError, match=message):
            pipeline.search(request)
    with pytest.raises(UnknownItem, match="'zz'"):
        pipeline.item("zz")
    assert pipeline.search(SearchRequest("shoes")).results, "a failed search holds up no other"


def test_the_default_mode_is_the_first_that_the_index_has() -> None:
    searcher = FakeSearcher()
    SearchPipeline(FakeStore(), searcher, modes=("lexical",)).search(SearchRequest("shoes"))
    assert searcher.asked[0][3] == "lexical"


verdicts = st.builds(
    lambda tier, gain: Verdict("x" if tier else None, (), gain if tier else None, tier),
    st.sampled_from(["Good", "Mid", "Bad", None]),
    st.floats(0, 1),
)


@given(given_verdicts=st.lists(verdicts, max_size=8), unjudged=st.integers(0, 3))
def test_ranking_is_a_permutation_sorted_by_tier_and_gain(given_verdicts: list[Verdict], unjudged: int) -> None:
    count = len(given_verdicts) + unjudged
    hits = [Hit(str(n), 1.0, n + 1, {}) for n in range(count)]
    results = rank(hits, [{"id": hit.item_id} for hit in hits], given_verdicts)
    assert sorted(int(r.item["id"]) for r in results) == list(range(count))
    tiers = [{"Good": 3, "Mid": 2, None: 1, "Bad": 0}[r.verdict.tier if r.verdict else None] for r in results]
    assert tiers == sorted(tiers, reverse=True)
    good = [r.verdict.expected_gain for r in results if r.verdict and r.verdict.tier == "Good"]
    assert good == sorted(good, reverse=True)
