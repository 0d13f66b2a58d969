"""The HTTP API: answers, error bodies, the rerank shape, safety headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from goodrate.relevance.pairs import Pair, text_item
from goodrate.relevance.protocol import Assessment
from goodrate.serving.http import PAGE, create_app
from goodrate.serving.limits import Limits
from goodrate.serving.parts import Parts
from goodrate.serving.safety import SAFETY_HEADERS
from serving_shop import CATALOGUE, FakeJudge, fake_judge, fake_pipeline


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    judge = fake_judge(tmp_path / "verdicts.sqlite")
    return TestClient(create_app(fake_pipeline(judge)), raise_server_exceptions=False)


@pytest.fixture
def bare() -> TestClient:
    return TestClient(create_app(fake_pipeline()), raise_server_exceptions=False)


def test_search_by_get_and_post_agree(client: TestClient) -> None:
    by_get = client.get("/search", params={"query": "red shoes", "k": 2}).json()
    by_post = client.post("/search", json={"query": "red shoes", "k": 2}).json()
    assert by_get["results"][0] | {"verdict": None} == by_post["results"][0] | {"verdict": None}
    first = by_get["results"][0]
    assert (first["rank"], first["item_id"], first["item"]["price"]) == (1, "a2", 120.5)
    assert first["verdict"]["probabilities"] == {"irrelevant": 0.0, "mismatch": 0.0, "related": 0.2, "excellent": 0.8}
    assert first["retrieval"]["rank"] == 2 and first["retrieval"]["channels"]["dense"]["share"] == 0.25
    assert by_get["labels"] == ["irrelevant", "mismatch", "related", "excellent"]
    assert by_get["cached"] == 0 and by_post["cached"] == 5  # four verdicts and one failure


def test_a_missing_price_is_null_and_a_failure_has_no_label(client: TestClient) -> None:
    results = client.get("/search", params={"query": "polish"}).json()["results"]
    polish = next(result for result in results if result["item_id"] == "a4")
    assert polish["item"]["price"] is None
    assert (polish["verdict"]["label"], polish["verdict"]["status"]) == (None, "no_label")


def test_search_without_a_judge(bare: TestClient) -> None:
    answer = bare.get("/search", params={"query": "shoes"}).json()
    assert answer["labels"] == [] and {result["verdict"] for result in answer["results"]} == {None}
    for path, body in [
        ("/judge", {"pairs": [{"query": "a", "item_text": "b"}]}),
        ("/explain", {"query": "a", "item_text": "b"}),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ]:
        refused = bare.post(path, json=body)
        assert refused.status_code == 501 and "--model" in refused.json()["message"]


def test_judge_keeps_the_order_of_mixed_pairs(client: TestClient) -> None:
    pairs = [
        {"query": "shoes", "item_text": "kettle"},
        {"query": "socks", "item_id": "a3"},
        {"query": "shoes", "item_id": "a1"},
    ]
    answer = client.post("/judge", json={"pairs": pairs}).json()
    assert [verdict["tier"] for verdict in answer["verdicts"]] == ["Bad", "Mid", "Good"]


def test_a_pair_has_one_verdict_whoever_asks(tmp_path: Path) -> None:
    stored = fake_judge(tmp_path / "verdicts.sqlite")
    client = TestClient(create_app(fake_pipeline(stored)))
    row = CATALOGUE.to_dicts()[2]
    # 0.2, 0.5, 0.2, 0.1 on gains 0, 1, 3, 7: (0.5 + 0.6 + 0.7) / 7; p(related or excellent) = 0.3, p(irrelevant) = 0.2
    expected = {
        "label": "mismatch", "tier": "Mid", "expected_gain": pytest.approx(1.8 / 7), "status": "ok", "item_cut": False,
        "probabilities": {"irrelevant": 0.2, "mismatch": 0.5, "related": 0.2, "excellent": 0.1},
        "reason": None, "reason_status": None, "inconsistent": None, "cached": False, "context": None,
    }  # fmt: skip
    assert fake_judge().judge("socks", [row])[0].as_dict(stored.scale) == expected
    body = {"pairs": [{"query": "socks", "item_id": "a3"}]}
    answers = [client.post("/judge", json=body).json()["verdicts"][0] for _ in range(2)]
    assert answers == [expected, expected | {"cached": True}]
    from_store = stored.pair_verdicts([Pair("socks", row)])[0]
    assert from_store.as_dict(stored.scale) == expected | {"cached": True}
    searched = client.get("/search", params={"query": "socks"}).json()["results"]
    assert next(one["verdict"] for one in searched if one["item_id"] == "a3") == expected | {"cached": True}
    text = stored.inner.reads([row])[0]  # the same text is the same pair, wherever it came from
    assert stored.judge("socks", [text_item(text)])[0].as_dict(stored.scale) == expected | {"cached": True}


def test_explain_says_the_steps_in_words(client: TestClient) -> None:
    answer = client.get("/explain", params={"query": "red shoes", "item_id": "a1"}).json()
    assert [(step["name"], step["text"]) for step in answer["steps"]] == [
        ("wants", "running shoes; colour red (required); price 100 (at most)"),
        ("found", "running shoes; colour: red; price: not stated"),
        ("category", "running shoes for running shoes: the same category"),
        ("checks", "colour fits; price not stated"),
        ("verdict", "the item does not say all that was required"),
    ]
    assert answer["verdict"]["inconsistent"] is False
    assert client.get("/explain", params={"query": "red shoes", "item_id": "a2"}).json()["verdict"]["inconsistent"]


def test_rerank_has_the_shape_that_cohere_and_jina_clients_read(client: TestClient) -> None:
    documents = ["a kettle", "Trail shoes", {"text": "Road shoes", "sku": 7}, "polish"]
    body = {"model": "rerank-v3.5", "query": "shoes", "documents": documents, "max_tokens_per_doc": 512}
    answer = client.post("/v1/rerank", json=body).json()
    assert [one["index"] for one in answer["results"]] == [2, 1, 0, 3]
    # expected gains over 7: road 6.2, trail 4.8, kettle 0.9 * 0 + 0.1 * 1; polish cannot be judged and stands last
    assert [one["relevance_score"] for one in answer["results"]] == pytest.approx([6.2 / 7, 4.8 / 7, 0.1 / 7, 0.0])
    assert all(set(one) == {"index", "relevance_score"} for one in answer["results"])
    assert answer["model"] == "rerank-v3.5" and answer["id"] and answer["meta"]["api_version"]
    assert answer["goodrate"] == {"failed": 1, "cut": 0, "warnings": []}
    top = client.post("/v1/rerank", json=body | {"top_n": 2, "return_documents": True}).json()["results"]
    assert [one["document"] for one in top] == [{"text": "Road shoes", "sku": 7}, {"text": "Trail shoes"}]


def test_rerank_fields_choose_what_is_read(client: TestClient) -> None:
    documents = [{"name": "kettle", "kind": "x"}, {"name": "Trail", "kind": "y"}]
    body = {"query": "shoes", "documents": documents, "rank_fields": ["name", "kind"]}
    assert [one["index"] for one in client.post("/v1/rerank", json=body).json()["results"]] == [1, 0]
    refused = client.post("/v1/rerank", json={"query": "shoes", "documents": ["a", {"name": "b"}]})
    assert refused.status_code == 400
    assert refused.json()["message"] == "documents[1] has no field 'text'; it has: name"


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/search", {"query": ""}, 422, "query: "),
        ("/search", {"query": "   "}, 400, "query is empty"),
        ("/search", {"query": "x", "k": 0}, 422, "k: "),
        ("/search", {"query": "x", "wher": "price < 3"}, 422, "wher: "),
        ("/search", {"query": "x", "where": "bad"}, 400, "no column named bad"),
        ("/search", {"query": "x", "mode": "magic"}, 400, "hybrid, lexical, dense"),
        ("/judge", {"pairs": []}, 422, "pairs: "),
        ("/judge", {"pairs": [{"query": "x"}]}, 422, "pairs.0: expected either item_id or item_text"),
        ("/judge", {"pairs": [{"item_id": "a1"}]}, 422, "pairs.0.query: Field required"),
        ("/explain", {"query": "x", "item_id": "zz"}, 404, "no item 'zz'"),
        ("/v1/rerank", {"query": "x", "documents": []}, 422, "documents: "),
        ("/absent", {}, 405, "Method Not Allowed"),
    ],
)
def test_errors_have_one_shape_and_name_the_field(
    client: TestClient, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, set(answer.json())) == (status, {"message", "errors", "detail"})
    assert said in answer.json()["message"]


def test_an_unforeseen_error_shows_nothing_of_the_inside() -> None:
    class Broken(FakeJudge):
        def assess(self, pairs: object) -> Assessment:
            raise RuntimeError("secret path /home/x")

    broken = TestClient(create_app(fake_pipeline(fake_judge(judge=Broken())), Parts(limits=Limits(body=1000))))
    answer = broken.get("/search?query=a")
    assert answer.status_code == 500 and "secret" not in answer.text and answer.json()["message"]
    too_long = broken.post("/v1/rerank", json={"query": "a", "documents": ["x" * 1000]})
    assert too_long.status_code == 413
    for one in (answer, too_long, broken.get("/absent"), broken.get("/search")):  # 500, 413, 404, 422
        assert SAFETY_HEADERS.items() <= {name: one.headers.get(name) for name in SAFETY_HEADERS}.items()


def test_health_and_page_come_with_safety_headers(client: TestClient, bare: TestClient) -> None:
    about = client.get("/healthz")
    assert about.json()["items"] == 5 and about.json()["judge"] == "fake"
    assert bare.get("/healthz").json()["judge"] is None
    page = client.get("/")
    assert page.status_code == 200 and "text/html" in page.headers["content-type"]
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/page.js").status_code == client.get("/page.css").status_code == 200
    assert client.get("/docs").status_code == 404  # it would load scripts from the internet
    assert "/v1/rerank" in client.get("/openapi.json").json()["paths"]


def test_the_page_asks_nothing_of_other_hosts(client: TestClient) -> None:
    files = sorted(path.name for path in PAGE.iterdir())
    assert {"index.html", "page.js", "facets.js", "page.css"} <= set(files)
    for name in files:
        text = client.get(f"/{name}").text.replace("http://www.w3.org/2000/svg", "")  # the name of a language
        assert "http://" not in text and "https://" not in text, name
        assert client.get(f"/{name}").headers["cache-control"] == "no-cache"


def test_facets_are_asked_for_by_name(bare: TestClient) -> None:
    without = bare.get("/search", params={"query": "shoes"}).json()
    assert (without["facets"], without["counted"], without["complete"]) == ([], None, None)
    by_get = bare.get("/search", params={"query": "shoes", "facets": ["auto", "brand"]}).json()
    by_post = bare.post("/search", json={"query": "shoes", "facets": ["auto", "Brand"]}).json()
    assert by_get["facets"] == by_post["facets"]
    assert [facet["name"] for facet in by_get["facets"]] == ["auto", "brand"]
    assert by_get["counted"] == 5 and by_get["complete"] is True and "facets" in by_get["latency_ms"]
    refused = bare.post("/search", json={"query": "shoes", "facets": ["brnd"]})
    assert refused.status_code == 400 and "no facet 'brnd'; the nearest: brand" in refused.json()["message"]
    assert bare.post("/search", json={"query": "shoes", "facets": ["x"] * 51}).status_code == 422


def test_facets_and_attribute_filters_of_a_real_index(tmp_path: Path) -> None:
    from faceted_shop import catalog_of, made_items
    from goodrate.api.index import Index

    index = Index.create(tmp_path / "index", catalog_of(made_items(60)))
    client = TestClient(create_app(index.pipeline), raise_server_exceptions=False)
    first = client.post("/search", json={"query": "kettle", "facets": ["auto"]}).json()
    chosen = [facet["values"][0]["where"] for facet in first["facets"] if facet["name"] in ("brand", "price")]
    again = client.post("/search", json={"query": "kettle", "where": " AND ".join(chosen), "facets": ["brand"]}).json()
    assert 0 < again["counted"] < first["counted"] and len(again["results"]) == again["counted"]
    wrong = client.post("/search", json={"query": "kettle", "where": "attributes.color = 'red'"})
    assert wrong.status_code == 400 and "the nearest: attributes.colour" in wrong.json()["message"]
