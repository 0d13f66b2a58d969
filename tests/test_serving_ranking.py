"""Rules, groups, sorting and pages of a search, from the pipeline to HTTP, Python and a running server."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from fastapi.testclient import TestClient

import goodrate as gr
from goodrate.api.ranking import read_ranking_rules, unknown_ids_warning
from goodrate.api.serving import live
from goodrate.catalog.items import Catalog
from goodrate.ranking.rule_file import RankingRules
from goodrate.serving.http import create_app
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import IndexUnavailable, SearchRequest
from serving_shop import FakeSearcher, FakeStore, Hit, QueryReading, fake_judge, hit_at

LAMPS = pl.DataFrame(
    [
        ("l1", "Orbit desk lamp lamp lamp", "Velto", 30.0, "p1", '{"colour":"red"}'),
        ("l2", "Orbit desk lamp lamp", "Velto", 20.0, "p1", '{"colour":"blue"}'),
        ("l3", "Plain lamp with a cable", "Brumm", 10.0, "", "{}"),
        ("l4", "Old lamp with a long cable and a bulb", "Brumm", None, "", "{}"),
        ("k1", "Kettle", "Brumm", 15.0, "", "{}"),
    ],
    schema=["id", "title", "brand", "price", "parent_id", "attributes"],
    orient="row",
)
RULES = """
[[pin]]
name = "kettle first"
query = "lamp"
ids = ["k1", "gone"]
places = [2, 1]

[[boost]]
name = "own brand"
query = "lamps"
match = "words"
where = "brand = 'Brumm'"
places = 2
from = 2026-06-01
until = 2026-08-31
"""


@pytest.fixture
def index(tmp_path: Path) -> gr.Index:
    return gr.Index.create(tmp_path / "index", Catalog(LAMPS))


def ids(found) -> list[str]:
    return [result.item["id"] for result in found]


class Shifting(FakeSearcher):
    """300 items; how the first are ordered depends on how many are asked for, as it does when channels look deeper."""

    total = 300

    def find(self, read: QueryReading, k: int, where: str | None = None, mode: str = "hybrid") -> list[Hit]:
        self.asked.append((read.text, k, where, mode))
        order = sorted(range(self.total), key=lambda n: (n // 150, hashlib.sha256(f"{n} {k}".encode()).digest()))
        return [hit_at(rank, f"a{n}") for rank, n in enumerate(order[:k], start=1)]


class InOrder(FakeSearcher):
    """300 items, always in the same order."""

    def find(self, read: QueryReading, k: int, where: str | None = None, mode: str = "hybrid") -> list[Hit]:
        return [hit_at(n + 1, f"a{n}") for n in range(min(k, 300))]


class ManyItems(FakeStore):
    """Items whose titles the fake judge knows, in groups of three."""

    def items(self, ids: Sequence[str]) -> pl.DataFrame:
        words = ["Trail", "Road", "socks", "kettle", "polish"]
        numbers = [int(item.removeprefix("a")) for item in ids]
        return pl.DataFrame({
            "id": list(ids), "title": [f"{words[n % 5]} {n}" for n in numbers], "brand": "", "category": "",
            "price": [float(n * 7 % 101) for n in numbers], "rating": None,
            "parent_id": [f"p{n % 97}" for n in numbers],
            "attributes": "{}", "description": "",
        }, schema_overrides={"rating": pl.Float64})  # fmt: skip

    def matching(self, ids: Sequence[str], where: str | None) -> set[str]:
        return set(ids)


ACTING = """
[[pin]]
name = "pin"
query = "shoes"
ids = ["a299", "a3"]
places = [4, 33]
[[boost]]
name = "boost"
ids = ["a7", "a20", "a31"]
factor = 5
[[bury]]
name = "end"
ids = ["a1", "a200"]
[[bury]]
name = "out"
ids = ["a2", "a201"]
to = "out"
"""


@pytest.mark.parametrize(
    "asked", [{}, {"group_by": "parent_id"}, {"sort": "-price"}, {"group_by": "title", "sort": "price"}]
)
@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("judged", [False, True])
def test_pages_of_a_search_repeat_and_skip_nothing(asked: dict[str, str], ruled: bool, judged: bool) -> None:
    rules = RankingRules.parse(ACTING, "rules") if ruled else None
    judge = fake_judge() if judged else None
    pipeline = SearchPipeline(ManyItems(), Shifting(), judge, rules=rules)
    whole = pipeline.search(SearchRequest("shoes", 500, **asked))
    assert len(set(ids(whole))) == len(whole) and not whole.more
    pages: list[str] = []
    for k in (7, 20, 20, 1, 60, 200):  # another k is no other list
        page = pipeline.search(SearchRequest("shoes", k, offset=len(pages), **asked))
        assert [result.rank for result in page] == list(range(len(pages) + 1, len(pages) + len(page) + 1))
        assert page.more == (len(pages) + len(page) < len(whole))
        pages += ids(page)
    assert pages == ids(whole)[: len(pages)] and len(pages) == min(308, len(whole))
    if not asked:
        assert len(whole) == (298 if ruled else 300)
    if ruled and not asked:
        assert pages[3] == "a299" and pages[32] == "a3" and {"a1", "a200"} == set(ids(whole)[-2:])
    if "group_by" in asked and not asked.get("sort"):
        everything = [*ids(whole), *(variant.id for result in whole for variant in result.variants)]
        assert sorted(everything) == sorted({f"a{n}" for n in range(300)} - ({"a2", "a201"} if ruled else set()))


def test_k_results_are_k_groups() -> None:
    searcher = Shifting()
    response = SearchPipeline(ManyItems(), searcher).search(SearchRequest("shoes", 90, group_by="parent_id"))
    assert len(response) == 90 and len({result.item["parent_id"] for result in response}) == 90
    assert [k for _, k, _, _ in searcher.asked] == [100, 1000], "the first hundred have too few groups"


def test_what_the_judge_has_not_seen_is_behind_whether_results_are_grouped_or_not() -> None:
    pipeline = SearchPipeline(ManyItems(), InOrder(), fake_judge())
    plain = pipeline.search(SearchRequest("shoes", 20, depth=4))
    grouped = pipeline.search(SearchRequest("shoes", 20, depth=4, group_by="parent_id"))
    assert ids(plain) == ids(grouped) and {*ids(plain)[:4]} == {"a0", "a1", "a2", "a3"}, "Bad ones of the four, too"


def test_sorted_among_the_retrieved_and_with_a_judge_among_those_that_are_not_bad() -> None:
    searcher = Shifting()
    pipeline = SearchPipeline(ManyItems(), searcher, fake_judge())
    assert len(pipeline.search(SearchRequest("shoes", 500, depth=0, sort="price"))) > 50
    judged = pipeline.search(SearchRequest("shoes", 500, depth=60, sort="price"))
    assert [k for _, k, _, _ in searcher.asked] == [200, 60]
    prices = [result.item["price"] for result in judged]
    assert prices == sorted(prices) and 0 < len(prices) < 60
    assert all(result.verdict is not None and result.verdict.tier != "Bad" for result in judged)


def test_wrong_requests() -> None:
    pipeline = SearchPipeline(FakeStore(), FakeSearcher())
    for asked, message in [
        ({"offset": -1}, "offset is -1"),
        ({"offset": 990, "k": 20}, "offset is 990 and k 20; expected offset >= 0, and offset . k <= 1,000"),
        ({"sort": "prize"}, "sort 'prize': expected price, rating or attributes.NAME"),
        ({"group_by": "colour"}, "group_by 'colour'"),
    ]:
        with pytest.raises(ValueError, match=message):
            pipeline.search(SearchRequest("shoes", **asked))  # type: ignore[arg-type]


def test_rules_of_a_day_with_what_is_fetched_and_filtered(index: gr.Index) -> None:
    rules = RankingRules.parse(RULES, "ranking_rules.toml")

    def found(day: str, query: str = "lamp", **asked: object) -> list[tuple[str, tuple[str, ...]]]:
        today = lambda: datetime.date.fromisoformat(day)  # noqa: E731
        pipeline = SearchPipeline(index.store, index.searcher, modes=("lexical",), rules=rules, today=today)
        response = pipeline.search(SearchRequest(query, **asked))  # type: ignore[arg-type]
        assert all(rule in response.rules for result in response for rule in result.rules)
        return [(result.item["id"], result.rules) for result in response]

    top, own = ("kettle first",), ("own brand",)
    assert found("2026-05-31") == [("l1", ()), ("k1", top), ("l2", ()), ("l3", ()), ("l4", ())]
    assert found("2026-08-31") == [("l3", own), ("k1", top), ("l1", ()), ("l4", own), ("l2", ())]
    assert found("2026-08-31", "desk lamps", where="price < 25")[:2] == [("l3", own), ("l2", ())]
    assert ("k1", top) not in found("2026-05-31", where="price > 18")
    assert ("k1", top) not in found("2026-05-31", "lamp under 12 euro"), "a price in the query is a filter, too"
    assert found("2026-08-31", "lamp under 100 euro")[1] == ("k1", top), (
        "and the query without it is what rules compare"
    )
    plain = [("l3", ()), ("l2", ()), ("l1", ()), ("l4", ())]
    assert found("2026-08-31", sort="price") == plain, "pins and boosts have no places in it; the unknown price is last"
    assert found("2026-08-31", with_rules=False) == [("l1", ()), ("l2", ()), ("l3", ()), ("l4", ())]


def test_an_item_that_only_a_pin_shows_has_no_rank_of_retrieval(index: gr.Index) -> None:
    response = index.with_rules(RankingRules.parse(RULES, "rules")).search("lamp")
    kettle = response[1]
    assert (kettle.item["id"], kettle.retrieval_rank, kettle.channels, kettle.rules) == (
        "k1",
        None,
        {},
        ("kettle first",),
    )


def test_a_python_search_groups_sorts_and_pages(index: gr.Index) -> None:
    grouped = index.search("lamp", group_by="parent_id")
    assert ids(grouped) == ["l1", "l3", "l4"]
    assert [(v.id, v.price, v.differing) for v in grouped[0].variants] == [("l2", 20.0, {"colour": "blue"})]
    assert ids(index.search("lamp", 2, offset=1)) == ["l2", "l3"]
    cheapest = index.search("orbit", sort="price", group_by="parent_id")
    assert ids(cheapest) == ["l2"] and cheapest[0].variants[0].id == "l1"


def test_an_index_remembers_its_grouping(index: gr.Index) -> None:
    index.remember_grouping("parent_id")
    assert ids(index.search("lamp")) == ["l1", "l3", "l4"]
    again = gr.Index.open(index.store.path)
    response = again.search("lamp")
    assert ids(response) == ["l1", "l3", "l4"] and response.request.group_by == "parent_id"
    assert len(again.search("lamp", group_by="none")) == 4
    with pytest.raises(ValueError, match="group_by 'colour'"):
        again.remember_grouping("colour")
    again.remember_grouping("none")
    assert len(gr.Index.open(index.store.path).search("lamp")) == 4


def test_rules_are_read_from_the_index_or_from_a_file(index: gr.Index, tmp_path: Path) -> None:
    own, other = index.store.path / "ranking_rules.toml", tmp_path / "other.toml"
    own.write_text(RULES)
    other.write_text("[[bury]]\nname = 'no kettles'\nids = ['l1']\nto = 'out'\n")
    opened = gr.Index.open(index.store.path)
    assert opened.search("lamp").rules[0] == "kettle first"
    assert unknown_ids_warning(opened) == f"ranking rules: 1 of 2 ids are not in {index.store.path}, such as 'gone'"
    assert ids(opened.with_rules(other).search("lamp")) == ["l2", "l3", "l4"]
    assert unknown_ids_warning(opened.with_rules(other)) is None
    assert len(read_ranking_rules(own).all()) == 2
    own.write_text("[[bury]]\nname = 'dear'\nwhere = 'prize > 5'\n")
    with pytest.raises(ValueError, match="ranking_rules.toml: bury 'dear': where: filter .*no column named prize"):
        gr.Index.open(index.store.path).search("lamp")


def test_a_running_server_reads_new_rules_and_says_what_is_wrong(
    index: gr.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goodrate.serving.live.REST", 0.0)
    client = TestClient(create_app(live(gr.Index.open(index.store.path))), raise_server_exceptions=False)

    def answer(**asked: object) -> dict[str, object]:
        return client.get("/search", params={"query": "lamp", **asked}).json()

    before = answer()
    assert (before["rules"], before["more"]) == ([], False)
    path = index.store.path / "ranking_rules.toml"
    path.write_text(RULES.split("[[boost]]")[0])
    after = answer(k=2)
    assert after["rules"] == ["kettle first"] and after["more"]
    second = after["results"][1]
    assert (second["item_id"], second["rules"], second["retrieval"]["rank"]) == ("k1", ["kettle first"], None)
    assert answer(with_rules=False)["rules"] == []
    path.write_text("[[pin]]\nname = 'x'\n")
    refused = client.get("/search", params={"query": "lamp"})
    assert refused.status_code == 503 and "ranking_rules.toml: pin 'x': query: expected" in refused.json()["message"]
    path.unlink()
    assert answer()["rules"] == []


def test_http_groups_sorts_and_pages(index: gr.Index) -> None:
    client = TestClient(create_app(index.pipeline))
    first = client.get("/search", params={"query": "lamp", "group_by": "parent_id", "k": 1}).json()["results"][0]
    assert first["variants"] == [
        {"id": "l2", "title": "Orbit desk lamp lamp", "price": 20.0, "image": "", "differing": {"colour": "blue"}}
    ]
    assert first["variant_count"] == 1 and first["rules"] == []
    paged = client.post("/search", json={"query": "lamp", "offset": 1, "k": 2}).json()
    assert [r["item_id"] for r in paged["results"]] == ["l2", "l3"] and (paged["offset"], paged["more"]) == (1, True)
    for body, status in [
        ({"sort": "prize"}, 400),
        ({"group_by": "colour"}, 400),
        ({"offset": -1}, 422),
        ({"offset": 1000}, 422),
    ]:
        assert client.post("/search", json={"query": "lamp", **body}).status_code == status, body


def test_a_rule_that_cannot_be_looked_up_is_the_index_that_is_unavailable() -> None:
    class Broken(FakeStore):
        def matching(self, ids: Sequence[str], where: str | None) -> set[str]:
            raise OSError("the disk is gone")

    rules = RankingRules.parse("[[bury]]\nname = 'x'\nwhere = \"brand = 'Zorvo'\"\n", "rules")
    with pytest.raises(IndexUnavailable, match="the disk is gone"):
        SearchPipeline(Broken(), FakeSearcher(), rules=rules).search(SearchRequest("shoes"))
