"""Candidates from elsewhere: OpenSearch, Elasticsearch, Solr and Vespa in their own forms, judged and served by us."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine_server import Answer, engine, opensearch, solr, vespa
from goodrate.serving.http import create_app
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.sources.opening import open_source
from goodrate.serving.sources.protocol import SourceUnavailable
from goodrate.serving.sources.searching import SourceSearcher, SourceStore
from serving_shop import FakeJudge, fake_judge

MAPPING = "title=name&brand=maker&price=cost"
ENGINES: list[tuple[str, Answer, str]] = [
    ("opensearch", opensearch, f"products?id=sku&fields=name%5E3,maker&{MAPPING}"),
    ("elasticsearch", opensearch, f"products?id=sku&{MAPPING}"),
    ("solr", solr, f"products?id=sku&fields=name%5E3,maker&{MAPPING}"),
    ("vespa", vespa, f"products?id=sku&{MAPPING}"),
]


def pipeline_of(url: str, judge: Any = None) -> SearchPipeline:
    source, address = open_source(url)
    store = SourceStore(source, address.columns)
    return SearchPipeline(store, SourceSearcher(source, store), judge, (source.name,))


@pytest.mark.parametrize(("scheme", "answer", "rest"), ENGINES, ids=[one[0] for one in ENGINES])
def test_an_engine_retrieves_and_goodrate_judges(scheme: str, answer: Answer, rest: str) -> None:
    with engine(answer) as (host, asked, _):
        client = TestClient(create_app(pipeline_of(f"{scheme}://{host}/{rest}", fake_judge())))
        assert client.get("/healthz").json()["items"] == 3 and client.get("/healthz").json()["modes"] == [scheme]
        found = client.get("/search?query=running+shoes").json()
        # both have two words; the judge puts Road (0.8 excellent) before Trail (0.5 excellent), kettle is not found
        assert [one["item_id"] for one in found["results"]] == ["k1", "k3"]
        first, second = found["results"]
        assert first["verdict"]["tier"] == "Good" and first["retrieval"]["channels"][scheme]["score"] == 2.0
        assert first["item"]["title"] == "Road running shoes, blue" and first["item"]["price"] == 120.5
        assert first["item"]["attributes"] == {"tags": ["road", "blue"]}  # nothing of the engine's own is in it
        assert second["item"]["title"] == "Trail running shoes" and second["item"]["brand"] == "Zorvo"
        assert second["item"]["price"] is None
        searches = len(asked)
        assert client.get("/explain?query=shoes&item_id=k1").json()["verdict"]["label"] == "excellent"
        assert len(asked) == searches  # it was found a moment ago
        assert client.get("/explain?query=kettle&item_id=k2").json()["verdict"]["label"] == "irrelevant"
        assert len(asked) == searches + 1
        assert client.get("/explain?query=kettle&item_id=zz").status_code == 404
        assert client.get("/search?query=zzz").json()["results"] == []


def test_what_each_engine_is_sent() -> None:
    with engine(opensearch) as (host, asked, _):
        source, _ = open_source(f"opensearch://{host}/{ENGINES[0][2]}")
        source.search("running shoes", 7)
        match = {"query": "running shoes", "lenient": True, "fields": ["name^3", "maker"]}
        assert asked == [("POST", "/products/_search", {"query": {"multi_match": match}, "size": 7})]
    with engine(solr) as (host, asked, _):
        source, _ = open_source(f"solr://{host}/{ENGINES[2][2]}")
        source.search("running shoes", 7)
        form = {"q": "running shoes", "rows": "7", "defType": "edismax", "qf": "name^3 maker"}
        assert asked == [("POST", "/solr/products/select", form | {"fl": "*,score", "wt": "json"})]
    with engine(vespa) as (host, asked, _):
        source, _ = open_source(f"vespa://{host}/products?id=sku&ranking=bm25")
        source.search('shoes" or true', 7)  # what was typed is no part of the YQL
        yql = 'select * from products where ({grammar: "weakAnd"}userInput(@words))'
        sent = {"yql": yql, "hits": 7, "words": 'shoes" or true', "ranking": "bm25"}
        assert asked == [("POST", "/search/", sent)]
        source.fetch(['k1"', "k2"])
        assert asked[1][2]["yql"] == r'select * from products where sku in ("k1\"", "k2")'


def test_a_body_of_ones_own_is_sent_to_opensearch(tmp_path: Path) -> None:
    own = {"query": {"match": {"query": "{{query}} shoes", "boost": 2}}, "size": "{{size}}", "_source": ["name"]}
    (tmp_path / "body.json").write_text(json.dumps(own), encoding="utf-8")
    with engine(opensearch) as (host, asked, _):
        source, _ = open_source(f"opensearch://{host}/products?body={tmp_path / 'body.json'}&{MAPPING}")
        assert [one.id for one in source.search("running", 2)] == ["doc-k1", "doc-k3"]  # _id, where no field is named
        filled = {"query": {"match": {"query": "running shoes", "boost": 2}}, "size": 2, "_source": ["name"]}
        assert asked == [("POST", "/products/_search", filled)]
        assert [one.id for one in source.fetch(["doc-k2"])] == ["doc-k2"]
    (tmp_path / "body.json").write_text('{"query": {}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r'body.json: expected the body of a _search, in which "{{query}}"'):
        open_source(f"opensearch://h/products?body={tmp_path / 'body.json'}")


def test_a_password_goes_into_the_header_and_into_no_message() -> None:
    with engine(opensearch) as (host, _, headers):
        source, address = open_source(f"opensearch://anna:s%40cret@{host}/products")
        source.count()
        assert base64.b64decode(headers["Authorization"].split()[1]) == b"anna:s@cret"
        with pytest.raises(SourceUnavailable) as raised:
            open_source(f"opensearch://anna:s%40cret@{host}/absent")[0].count()
        assert "cret" not in str(raised.value) + str(address) and "no such index" in str(raised.value)
        with pytest.raises(ValueError, match="no parameter 'fild'") as wrong:
            open_source(f"opensearch://anna:s%40cret@{host}/products?fild=a")
        assert "cret" not in str(wrong.value) and "accepted: id, title, " in str(wrong.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((500, {"error": "red"}), "answered 500"),
        ((200, "<html>"), "did not answer in JSON"),
        ((200, [1]), "expected a JSON object, found list"),
    ],
)
def test_an_engine_that_fails_is_503_with_its_reason(given: tuple[int, Any], said: str) -> None:
    state = {"broken": False}

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        return given if state["broken"] else opensearch(method, path, body)

    with engine(answer) as (host, _, _headers):
        client = TestClient(create_app(pipeline_of(f"opensearch://{host}/products?{MAPPING}")))
        assert client.get("/readyz").status_code == 200
        state["broken"] = True
        failed = client.get("/search?query=shoes")
        assert failed.status_code == 503 and said in failed.json()["message"] and host in failed.json()["message"]
        state["broken"] = False
        assert client.get("/search?query=shoes").status_code == 200
    gone = client.get("/search?query=kettle")
    assert gone.status_code == 503 and "does not answer" in gone.json()["message"]


def test_errors_inside_an_answer_of_vespa_are_errors() -> None:
    with engine(vespa) as (host, _, _headers):
        source, _ = open_source(f"vespa://{host}/products?id=sku&ranking=broken")
        with pytest.raises(SourceUnavailable, match="no rank profile"):
            source.search("shoes", 3)


def test_documents_without_a_title_say_which_fields_there_are() -> None:
    with engine(opensearch) as (host, _, _headers):
        failed = TestClient(create_app(pipeline_of(f"opensearch://{host}/products?id=sku"))).get("/search?query=shoes")
        assert failed.status_code == 503
        assert "has no field 'title' for the title; say which it is with title=FIELD" in failed.json()["message"]
        assert "cost, maker, name, tags" in failed.json()["message"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h/x", "expected an address that begins with opensearch://, elasticsearch://"),
        ("opensearch://h", "expected opensearch://HOST:PORT/NAME"),
        ("solr:///x", "expected solr://HOST:PORT/NAME"),
        ("vespa://h:x/y", "Port could not be cast"),
        ("postgresql://h/db", "expected table=NAME, and either vector=COLUMN or text=COLUMN,COLUMN"),
        ("postgresql://h/db?table=t&vector=v", "read by --encoder DIR, and there is none"),
    ],
)
def test_wrong_addresses_say_what_is_expected(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).") as raised:
        open_source(url)
    assert said in str(raised.value)


def test_filters_and_facets_are_the_engines_own_business() -> None:
    with engine(opensearch) as (host, _, _headers):
        client = TestClient(create_app(pipeline_of(f"opensearch://{host}/products?{MAPPING}")))
        assert client.get("/search?query=shoes&where=price+<+5").status_code == 400
        assert client.get("/search?query=shoes&facets=auto").json()["facets"] == []
        assert client.get("/search?query=shoes&facets=brand").status_code == 400
        sent = client.get("/search?query=running+shoes&sort=price").json()["results"]
        assert [one["item"]["price"] for one in sent] == [120.5, None]


def test_the_command_serves_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from goodrate.cli.serve import command

    served: list[Any] = []
    monkeypatch.setattr("goodrate.api.serving.run", lambda pipeline, listener, parts: served.append(pipeline))
    monkeypatch.setattr("goodrate.api.judging.open_judge", lambda *_: fake_judge(judge=FakeJudge()))
    with engine(opensearch) as (host, _, _headers):
        url = f"opensearch://{host}/products?{MAPPING}"
        kept = str(tmp_path / "v.sqlite")
        asked = ["--candidates", url, "--model", "judge", "--port", "0"]
        said = CliRunner().invoke(command, [*asked, "--verdicts", kept])
        assert said.exception is None and "3 items, judge fake" in said.stderr
        assert "--verdicts FILE keeps them" in CliRunner().invoke(command, asked).stderr
        both = CliRunner().invoke(command, ["index", *asked])
        assert "--candidates takes the place of INDEX" in str(both.exception)
        ruled = CliRunner().invoke(command, [*asked, "--rules", "r.toml"])
        assert "leave out --rules" in str(ruled.exception)
    gone = CliRunner().invoke(command, asked)
    assert isinstance(gone.exception, OSError) and "does not answer" in str(gone.exception)
    assert "expected INDEX" in str(CliRunner().invoke(command, ["--port", "0"]).exception)
