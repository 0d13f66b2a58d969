"""The HTTP API does what /openapi.json says, whatever it is asked; `make faults` asks a thousand times more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import entity_app, whole_app
from fastapi.testclient import TestClient

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 2  # of each operation


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield whole_app(tmp_path_factory.mktemp("api"))


def test_every_answer_is_as_it_is_described(app: Any) -> None:
    assert _tried(app) > 60


def test_what_an_editor_says_of_entities_is_as_it_is_described(tmp_path: Path) -> None:
    assert _tried(entity_app(tmp_path), "^/overrides", examples=8) > 20


def _tried(app: Any, paths: str = "", examples: int = EXAMPLES) -> int:
    """How many cases were asked of the operations whose path has this in it; each answer is held against the schema."""
    from hypothesis import HealthCheck, given, settings

    config = schemathesis.Config.from_path(str(Path(__file__).parent / "schemathesis.toml"))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    schema = schema.include(path_regex=paths) if paths else schema
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=examples, deadline=None, derandomize=True, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(operation.as_strategy())
        def asked(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate()

        asked()
    return tried


def test_a_method_that_a_path_lacks_names_those_it_has(app: Any) -> None:
    client = TestClient(app)
    for path, allowed in (("/search", {"GET", "POST"}), ("/rerank", {"POST"}), ("/page.js", {"GET", "HEAD"})):
        answer = client.request("DELETE", path)
        assert answer.status_code == 405 and allowed <= set(answer.headers["allow"].split(", "))
    for path in ("/v1/rerank", "/judge", "/grading/votes"):
        status = client.get(path).status_code
        assert (status == 405) == ("GET" not in client.options(path).headers["allow"].split(", "))
    assert client.get("/nothing/here").status_code == 404


def test_errors_are_described_in_the_shape_that_they_have(app: Any) -> None:
    client = TestClient(app)
    described = client.get("/openapi.json").json()
    for operations in described["paths"].values():
        for operation in operations.values():
            told = operation["responses"]["422"]["content"]["application/json"]["schema"]["$ref"]
            assert told == "#/components/schemas/ErrorAnswer" and {"400", "404", "413", "429", "501"} <= set(
                operation["responses"]
            )
    shape = described["components"]["schemas"]["ErrorAnswer"]
    assert set(shape["required"]) == set(client.post("/search", json={}).json()) == {"message", "errors", "detail"}


@pytest.mark.parametrize("wrong", [{"judge_ms": False}, {"k": True}, {"offset": False}])
def test_a_truth_value_is_no_number(app: Any, wrong: dict[str, Any]) -> None:
    answer = TestClient(app).post("/search", content=json.dumps({"query": "shoes", **wrong}),
                                  headers={"content-type": "application/json"})  # fmt: skip
    assert answer.status_code == 422 and f"{next(iter(wrong))}: expected a number" in answer.json()["message"]
    assert TestClient(app).post("/search", json={"query": "shoes", "with_rules": False}).status_code == 200
    assert TestClient(app).post("/search", json={"query": "shoes", "with_rules": 0}).status_code == 422
    assert TestClient(app).get("/search?query=shoes&with_rules=false&k=3").status_code == 200
