"""The page of a server that interleaves: an opened result is a click in the log, on the list that it came with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import page_browser
from goodrate.serving.http import create_app
from goodrate.serving.interleaving import Interleaving
from goodrate.serving.parts import Parts
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.traffic_log import TrafficLog
from page_browser import WIDE, Served, search
from serving_shop import FakeSearcher, FakeStore, fake_judge, fake_pipeline

pytestmark = page_browser.MARKS


@pytest.fixture
def page() -> Iterator[Any]:
    for browser in page_browser.started_chromium():
        yield from page_browser.opened_page(browser, WIDE)


def test_an_opened_result_is_a_click(page: Any, tmp_path: Path) -> None:
    other = SearchPipeline(FakeStore(), FakeSearcher(), fake_judge())
    beside = Interleaving(("old", "new"), lambda: other, TrafficLog(tmp_path))
    server = Served(None, app=create_app(fake_pipeline(), Parts(interleaving=beside)))
    search(page, server, "red shoes")
    second = page.locator(".result").nth(1)
    second.get_by_role("button", name="Details").click()
    second.get_by_text("Attributes").wait_for()
    assert second.get_by_text("Retrieval").count() == 0
    deadline = time.monotonic() + 20
    while not (tmp_path / "events.jsonl").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    shown = [json.loads(line) for line in (tmp_path / "queries.jsonl").read_text().splitlines()]
    event = json.loads((tmp_path / "events.jsonl").read_text())
    assert (event["query_id"], event["action_name"]) == (shown[0]["query_id"], "click") and len(shown) == 1
    assert event["event_attributes"]["object"]["object_id"] == shown[0]["query_response_hit_ids"][1]
    assert event["event_attributes"]["position"] == {"ordinal": 2}
    assert event["client_id"] == shown[0]["client_id"] and len(event["client_id"]) == 24
    server.stop()
