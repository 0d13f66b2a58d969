"""The recipes of docs/candidates.md: their JSON is JSON, and what an engine makes of it is answered as it reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from goodrate.serving.http import create_app
from serving_shop import fake_judge, fake_pipeline

PAGE = (Path(__file__).parents[1] / "docs" / "candidates.md").read_text(encoding="utf-8")
TEXTS = ["a kettle", "Trail shoes", 'Road "running" shoes']


def bodies() -> dict[str, Any]:
    """Each request of the page, "PUT _inference/rerank/goodrate" -> its JSON body."""
    decoder, found = json.JSONDecoder(), {}
    for match in re.finditer(r"^(?:GET|PUT|POST) (\S+)$\n", PAGE, re.MULTILINE):
        found[match[1]] = decoder.raw_decode(PAGE, match.end())[0]
    return found


def filled(template: str, values: dict[str, str]) -> Any:
    """A request body as an engine makes it of its template; values are put in as they stand."""
    for name, value in values.items():
        template = template.replace("${" + name + "}", value)
    assert "${" not in template
    return json.loads(template)


@pytest.fixture
def client() -> TestClient:
    return TestClient(create_app(fake_pipeline(fake_judge())))


def best_first(answer: Any) -> list[int]:
    return [one["index"] for one in sorted(answer["results"], key=lambda one: -one["relevance_score"])]


def test_what_opensearchs_connector_sends_is_answered(client: TestClient) -> None:
    connector = bodies()["_plugins/_ml/connectors/_create"]
    action = connector["actions"][0]
    # OpenSearch puts a query in as escaped text and lists and numbers as JSON
    values = {"query": 'red \\"shoes\\"', "documents": json.dumps(TEXTS), "top_n": "3"}
    named = {f"parameters.{name}": value for name, value in {**connector["parameters"], **values}.items()}
    answer = client.post(action["url"].partition(".example")[2], json=filled(action["request_body"], named))
    assert answer.status_code == 200 and best_first(answer.json()) == [2, 1, 0]


def test_what_elasticsearchs_custom_service_sends_is_answered(client: TestClient) -> None:
    settings = bodies()["_inference/rerank/goodrate"]["service_settings"]
    sent = filled(settings["request"], {"query": json.dumps('red "shoes"'), "input": json.dumps(TEXTS)})
    answer = client.post(settings["url"].partition(".example")[2], json=sent).json()
    assert best_first(answer) == [2, 1, 0]
    for path in settings["response"]["json_parser"].values():  # $.results[*].index
        name = path.removeprefix("$.results[*].")
        assert all(name in one for one in answer["results"]), path


def test_the_pipeline_and_the_searches_are_json() -> None:
    assert {"_search/pipeline/goodrate", "products/_search", "products/_search?search_pipeline=goodrate"} <= set(
        bodies()
    )
