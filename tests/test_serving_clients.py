"""The routes that clients of other servers speak: Cohere, Jina, TEI, vLLM and OpenAI; the shapes that they read."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from goodrate.serving.http import create_app
from goodrate.serving.parts import Parts
from goodrate.serving.text_encoder import BATCH, TextEncoder
from serving_shop import CATALOGUE, FakeJudge, fake_judge, fake_pipeline
from tiny_models import tokenizer_file

DOCUMENTS = ["a kettle", "Trail shoes", "Road shoes", "polish"]
# expected gains over 7: road 6.2, trail 4.8, kettle 0.1; polish cannot be judged and stands last
ORDER, GAINS = [2, 1, 0, 3], [6.2 / 7, 4.8 / 7, 0.1 / 7, 0.0]


@dataclass
class CountingEncoder:
    """Vectors (characters, 1 for a query, words) / length; notes how many texts each call has."""

    fingerprint: str = "f"
    dimension: int = 3
    calls: list[int] = field(default_factory=list)

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return self._vectors(texts, 1.0)

    def encode_items(self, texts: list[str]) -> np.ndarray:
        return self._vectors(texts, 0.0)

    def tokenizer(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1] * len(text.split()) for text in texts]}

    def _vectors(self, texts: list[str], query: float) -> np.ndarray:
        self.calls.append(len(texts))
        rows = np.asarray([[len(text), query, len(text.split())] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def client(encoder: CountingEncoder) -> TestClient:
    parts = Parts(encoder=TextEncoder("counting", encoder))
    return TestClient(create_app(fake_pipeline(fake_judge()), parts), raise_server_exceptions=False)


@pytest.mark.parametrize(("path", "version"), [("/rerank", "1"), ("/v1/rerank", "1"), ("/v2/rerank", "2")])
def test_rerank_of_cohere_jina_and_vllm(client: TestClient, path: str, version: str) -> None:
    body = {"query": "shoes", "documents": DOCUMENTS, "top_n": 3, "return_documents": True, "model": "m"}
    answer = client.post(path, json=body).json()
    assert [one["index"] for one in answer["results"]] == ORDER[:3]
    assert [one["relevance_score"] for one in answer["results"]] == pytest.approx(GAINS[:3])
    assert answer["results"][0]["document"] == {"text": "Road shoes"}
    assert answer["usage"] == {"prompt_tokens": 0, "total_tokens": 0}  # Haystack reads it as it comes
    assert answer["meta"] == {"api_version": {"version": version}, "billed_units": {"search_units": 0}}
    assert (answer["model"], answer["object"], answer["goodrate"]["failed"]) == ("m", "list", 1)


def test_rerank_of_tei_is_told_by_its_texts(client: TestClient) -> None:
    answer = client.post("/rerank", json={"query": "shoes", "texts": DOCUMENTS, "truncate": True}).json()
    assert answer == [{"index": i, "score": pytest.approx(gain)} for i, gain in zip(ORDER, GAINS, strict=True)]
    asked = {"query": "shoes", "texts": DOCUMENTS, "return_text": True, "raw_scores": True}
    shown = client.post("/rerank", json=asked)
    assert [one["text"] for one in shown.json()] == [DOCUMENTS[i] for i in ORDER]
    assert "raw_scores" in json.loads(shown.headers["x-goodrate-warnings"])[0]


@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        ({"text_1": "shoes", "text_2": DOCUMENTS}, DOCUMENTS),
        ({"text_1": ["shoes", "tea"], "text_2": ["Road shoes", "a kettle"]}, ["Road shoes", "a kettle"]),
        ({"queries": "shoes", "documents": ["Trail"]}, ["Trail"]),
        ({"data_1": "shoes", "data_2": "Trail"}, ["Trail"]),
    ],
)
def test_score_keeps_the_order(client: TestClient, body: dict[str, Any], pairs: list[str]) -> None:
    by_text = {"a kettle": 0.1 / 7, "Trail shoes": 4.8 / 7, "Trail": 4.8 / 7, "Road shoes": 6.2 / 7, "polish": 0.0}
    answers = [client.post(path, json=body | {"model": "m"}).json() for path in ("/score", "/v1/score")]
    for answer in answers:
        assert [one["index"] for one in answer["data"]] == list(range(len(pairs)))
        assert [one["score"] for one in answer["data"]] == pytest.approx([by_text[text] for text in pairs])
        assert {one["object"] for one in answer["data"]} == {"score"} and answer["object"] == "list"
        assert answer["usage"]["total_tokens"] == 0 and answer["goodrate"]["failed"] == pairs.count("polish")


def test_embeddings_of_openai(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": ["red shoes", "tea"], "model": "m"}).json()
    assert [one["index"] for one in answer["data"]] == [0, 1] and answer["object"] == "list"
    assert answer["data"][0]["embedding"] == pytest.approx(np.array([9, 0, 2]) / np.sqrt(85))
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3} and answer["model"] == "m"
    short = client.post("/v1/embeddings", json={"input": "red shoes", "encoding_format": "base64"}).json()
    read = np.frombuffer(base64.b64decode(short["data"][0]["embedding"]), dtype="<f4")
    assert read.tolist() == pytest.approx(answer["data"][0]["embedding"])
    cut = client.post("/v1/embeddings", json={"input": "red shoes", "dimensions": 1}).json()
    assert cut["data"][0]["embedding"] == [1.0]  # the first float, normalised again


@pytest.mark.parametrize(
    "said",
    [
        {"task": "retrieval.query"}, {"input_type": "query"}, {"input_type": "search_query"},
        {"model": "counting-query"}, {"prompt_name": "query"},
    ],
)  # fmt: skip
def test_queries_are_encoded_as_queries(client: TestClient, said: dict[str, str]) -> None:
    as_query = client.post("/v1/embeddings", json={"input": ["tea"], **said}).json()
    assert as_query["data"][0]["embedding"] == pytest.approx(np.array([3, 1, 1]) / np.sqrt(11))
    for item in ({}, {"task": "retrieval.passage"}, {"input_type": "document"}, {"model": "counting"}):
        as_item = client.post("/v1/embeddings", json={"input": [{"text": "tea"}], **item}).json()
        assert as_item["data"][0]["embedding"] == pytest.approx(np.array([3, 0, 1]) / np.sqrt(10))


def test_embed_of_tei_and_of_cohere(client: TestClient) -> None:
    item, query = np.array([3, 0, 1]) / np.sqrt(10), np.array([3, 1, 1]) / np.sqrt(11)
    assert client.post("/embed", json={"inputs": "tea"}).json() == [pytest.approx(item)]
    assert client.post("/", json={"inputs": ["tea"], "prompt_name": "query"}).json() == [pytest.approx(query)]
    body = {"texts": ["tea"], "model": "m", "input_type": "search_query", "embedding_types": ["float", "base64"]}
    answer = client.post("/v2/embed", json=body).json()
    assert answer["embeddings"]["float"] == [pytest.approx(query)] and answer["texts"] == ["tea"]
    assert answer["response_type"] == "embeddings_by_type" and answer["meta"]["api_version"]["version"] == "2"
    read = np.frombuffer(base64.b64decode(answer["embeddings"]["base64"][0]), dtype="<f4")
    assert read.tolist() == answer["embeddings"]["float"][0]


def test_many_texts_leave_turns_to_searches(client: TestClient, encoder: CountingEncoder) -> None:
    answer = client.post("/v1/embeddings", json={"input": ["tea"] * (BATCH + 1)}).json()
    assert len(answer["data"]) == BATCH + 1 and encoder.calls == [BATCH, 1]


def test_models_are_listed_for_openai_and_for_cohere(client: TestClient) -> None:
    answer = client.get("/v1/models").json()
    assert [one["id"] for one in answer["data"]] == ["fake", "counting", "counting-query"]
    assert [(one["name"], one["endpoints"]) for one in answer["models"]][:2] == [
        ("fake", ["rerank"]), ("counting", ["embed"]),
    ]  # fmt: skip
    assert TestClient(create_app(fake_pipeline())).get("/v1/models").json()["data"] == []


def test_long_queries_are_cut_and_the_answer_says_so(client: TestClient) -> None:
    long = "shoes " * 100  # 600 characters
    answer = client.post("/v2/rerank", json={"query": long, "documents": ["Trail", "Road" + " x" * 10_000]})
    said = answer.json()["goodrate"]["warnings"]
    assert said == [
        "the query has 600 characters; the first 500 were read",
        "1 texts are longer than 20,000 characters; their beginnings were read",
    ]
    assert answer.json()["meta"]["warnings"] == said  # where Cohere's client looks
    assert json.loads(answer.headers["x-goodrate-warnings"]) == said
    scored = client.post("/score", json={"text_1": long, "text_2": ["Trail", "Road"]}).json()
    assert scored["goodrate"]["warnings"] == said[:1]
    short = client.post("/v2/rerank", json={"query": "shoes", "documents": ["Trail"]})
    assert short.json()["goodrate"]["warnings"] == [] and "x-goodrate-warnings" not in short.headers


def test_texts_in_another_form_than_the_judge_reads_are_noticed() -> None:
    class Listed(FakeJudge):
        @dataclass
        class Card:
            item_form: str = "listing"

        card = Card()

    client = TestClient(create_app(fake_pipeline(fake_judge(judge=Listed()))))
    plain = {"query": "shoes", "documents": [f"Trail {number}" for number in range(5)]}
    answer = client.post("/rerank", json=plain).json()
    assert len(answer["goodrate"]["warnings"]) == 1
    assert "5 of 5 (100%) item texts are not in the form" in answer["goodrate"]["warnings"][0]
    pairs = [{"query": "shoes", "item_text": text} for text in plain["documents"]]
    judged = client.post("/judge", json={"pairs": pairs}).json()
    assert judged["warnings"] == answer["goodrate"]["warnings"]
    listed = {"query": "shoes", "documents": [f"Trail {number} ; brand Zorvo" for number in range(5)]}
    assert client.post("/rerank", json=listed).json()["goodrate"]["warnings"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/rerank", {"query": "a"}, 422, "expected either documents (Cohere, Jina, vLLM) or texts (TEI)"),
        ("/rerank", {"query": "a", "documents": ["b"], "texts": ["b"]}, 422, "expected either documents"),
        ("/rerank", {"query": "a", "texts": ["b", None]}, 422, "texts.1"),
        ("/v2/rerank", {"query": "a", "documents": [None]}, 422, "documents.0"),
        ("/v2/rerank", {"query": None, "documents": ["b"]}, 422, "query"),
        ("/v2/rerank", {"query": "a", "documents": ["b"] * 1001}, 422, "1000"),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c"]}, 400, "text_1 has 2 texts and text_2 1"),
        ("/score", {"text_1": "a", "text_2": [None]}, 422, "text_2"),
        ("/score", {"text_1": "", "text_2": "b"}, 400, "a query is empty"),
        ("/v1/embeddings", {"input": [[1, 2]]}, 400, "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"input": [1, 2]}, 400, "input[0]: expected a text, found 1"),
        ("/v1/embeddings", {"input": ["a", None]}, 400, "input[1]: expected a text, found null"),
        ("/v1/embeddings", {"input": [{"image": "x"}]}, 400, "input[0]: expected a text"),
        ("/v1/embeddings", {"input": []}, 400, "expected 1 to 1,000"),
        ("/v1/embeddings", {"input": "a", "dimensions": 4}, 400, "the vectors of this encoder have 3"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, 422, "encoding_format"),
        ("/embed", {"inputs": [None]}, 400, "inputs[0]"),
        ("/v2/embed", {"texts": ["a"], "embedding_types": ["int8"]}, 422, "expected float or base64"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_where_clients_look(
    client: TestClient, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status and said in answer.json()["message"]
    assert answer.json()["detail"] == answer.json()["message"]  # LlamaIndex and Haystack show it


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/v2/embed"])
def test_an_index_of_words_has_no_vectors_to_give(path: str) -> None:
    bare = TestClient(create_app(fake_pipeline(fake_judge())))
    answer = bare.post(path, json={"input": "a", "inputs": "a", "texts": ["a"]})
    assert answer.status_code == 501 and "goodrate index --encoder DIR" in answer.json()["message"]


def test_vectors_are_those_that_the_index_searches_by(tmp_path: Path) -> None:
    from goodrate.api.index import Index
    from goodrate.api.serving import text_encoder
    from goodrate.models.encoder import Encoder

    made = Encoder.create(tokenizer_file(tmp_path), hidden=16, layers=1, heads=2, query_prompt="query ")
    index = Index.create(tmp_path / "index", CATALOGUE, made)
    served = TestClient(create_app(index.pipeline, Parts(encoder=text_encoder(index))))
    texts = ["red shoes", "a kettle that boils water"]
    for said, expected in (({}, made.encode_items(texts)), ({"task": "query"}, made.encode_queries(texts))):
        answer = served.post("/v1/embeddings", json={"input": texts, **said}).json()
        given = np.asarray([one["embedding"] for one in answer["data"]])
        np.testing.assert_allclose(given, expected, atol=1e-5)
        assert answer["usage"]["total_tokens"] == sum(len(row) for row in made.tokenizer(texts)["input_ids"])
    assert served.get("/v1/models").json()["data"][0]["id"] == "encoder"  # it was in memory: it has no name


def test_the_table_of_clients_is_the_one_that_was_measured() -> None:
    root = Path(__file__).parents[1]
    table = (root / "benchmarks" / "results" / "client_matrix.md").read_text(encoding="utf-8")
    page = (root / "docs" / "clients.md").read_text(encoding="utf-8")
    assert table in page and "fails" not in table and "not installed" not in table
    called = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    calls = (root / "tests" / "clients" / "calls.py").read_text(encoding="utf-8")
    assert called == re.findall(r'^    Call\("([^"]+)"', calls, re.MULTILINE)
