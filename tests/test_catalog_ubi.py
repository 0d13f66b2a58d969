"""User behaviour insights and timed tables as impressions."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from goodrate.api.events import stream_events
from goodrate.catalog.event_times import event_times
from goodrate.catalog.impressions import placed_impressions
from goodrate.catalog.text_hash import hash_texts
from goodrate.catalog.ubi import read_ubi

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)


def event(action: str, query: str, item: str, ordinal: int | None, second: int, **more: Any) -> dict[str, Any]:
    """One UBI event."""
    position = {} if ordinal is None else {"position": {"ordinal": ordinal}}
    attributes = {"object": {"object_id": item, "object_id_field": "sku"}, **position}
    return {"application": "shop", "action_name": action, "query_id": query, "client_id": "c1",
            "timestamp": f"2026-11-01T12:00:{second:02}Z", "event_attributes": attributes, **more}  # fmt: skip


QUERIES = [
    {"query_id": "q1", "user_query": " red lamp ", "timestamp": 1793534400000, "client_id": "c1",
     "query_response_hit_ids": ["a", "b", "c"]},
    {"query_id": "q2", "user_query": "desk", "timestamp": "2026-11-01T12:00:10Z", "query_response_hit_ids": [7, 8, 9]},
    {"query_id": "q3", "user_query": "chair", "timestamp": "2026-11-01T12:00:20Z", "query_response_hit_ids": []},
]  # fmt: skip
EVENTS = [
    event("impression", "q1", "a", 1, 1), event("impression", "q1", "b", 2, 1), event("impression", "q1", "b", 2, 3),
    event("click", "q1", "b", 2, 4), event("product_hover", "q1", "a", 1, 2), event("click", "q2", "9", None, 12),
    event("click", "q3", "z", None, 21), event("impression", "gone", "a", 1, 22),
]  # fmt: skip


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shown(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return frame.select("query", "item_id", "position", "clicked").rows()


EXPECTED = [
    ("red lamp", "a", 1, False), ("red lamp", "b", 2, True),  # c was a hit and no impression: not seen
    ("desk", "7", 1, False), ("desk", "8", 2, False), ("desk", "9", 3, True),  # no impression event: its hits
]  # fmt: skip


def test_queries_and_events_become_impressions(tmp_path: Path) -> None:
    files = [write_lines(tmp_path / "events.ndjson", EVENTS), write_lines(tmp_path / "queries.ndjson", QUERIES)]
    found = read_ubi(files)
    assert shown(found.frame) == [*EXPECTED, ("chair", "z", None, True)]
    assert found.frame["time"][1] == T0.replace(second=1) and found.frame["time"][2] == T0.replace(second=10)
    assert found.notes == (
        "queries without an impression event: 1; all of their hits count as seen",
        "events of other actions are left out: product_hover 1",
        "clicked items that nothing shows: 1; they count as seen, without position",
        "impressions of queries without user_query: 1; left out",
    )


def test_one_file_with_both_as_a_bulk_request(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for index, documents in (("ubi_events", EVENTS), ("ubi_queries", QUERIES)):
        for document in documents:
            rows += [{"index": {"_index": index}}, document]
    bulk = write_lines(tmp_path / "bulk.ndjson", rows)
    assert shown(read_ubi([bulk]).frame)[:5] == EXPECTED
    assert shown(placed_impressions(bulk)) == EXPECTED  # a click without a position is nothing to learn positions from


def test_a_folder_is_known_by_its_columns(tmp_path: Path) -> None:
    write_lines(tmp_path / "events.jsonl", EVENTS)
    write_lines(tmp_path / "queries.jsonl", QUERIES)
    frame = placed_impressions(tmp_path)
    assert shown(frame) == EXPECTED and frame.schema["time"] == pl.Datetime("us", "UTC")


def test_other_names_of_clicks_and_positions_from_zero(tmp_path: Path) -> None:
    events = [event("view", "q1", "a", 0, 1), event("view", "q1", "b", 1, 1), event("add_to_cart", "q1", "a", 0, 5)]
    found = read_ubi(
        [write_lines(tmp_path / "u.jsonl", [*events, QUERIES[0]])], clicks=["add_to_cart"], impressions=["view"]
    )
    assert shown(found.frame) == [("red lamp", "a", 1, True), ("red lamp", "b", 2, False)]
    assert "positions of impressions begin at 0; here they begin at 1" in found.notes


def test_events_may_carry_the_text_of_their_query(tmp_path: Path) -> None:
    events = [event("impression", "q9", "a", 1, 1, user_query="lamp"), event("click", "q9", "a", 1, 2)]
    assert shown(read_ubi([write_lines(tmp_path / "u.jsonl", events)]).frame) == [("lamp", "a", 1, True)]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"timestamp": -5}, "row 2, column timestamp: expected a time from 1970 to 2100"),
        ({"timestamp": None}, "row 2, column timestamp: expected a time"),
        ({"timestamp": "soon"}, "row 2, column timestamp"),
        ({"event_attributes": {"object": {"object_id": "a"}, "position": {"ordinal": 1.5}}},
         "row 2, column event_attributes.position.ordinal: expected a whole number from 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changed: dict[str, Any], expected: str, tmp_path: Path) -> None:
    rows = [QUERIES[0], {**event("impression", "q1", "a", 1, 1), **changed}, event("impression", "q1", "b", 2, 1)]
    path = write_lines(tmp_path / "u.jsonl", rows)
    with pytest.raises(ValueError, match=expected):
        read_ubi([path])
    found = read_ubi([path], skip_bad=1)
    assert shown(found.frame) == [("red lamp", "b", 2, False)] and [bad.row for bad in found.skipped] == [2]


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no UBI file: expected the columns query_id and action_name"):
        read_ubi([write_lines(tmp_path / "u.jsonl", [{"query": "a"}])])
    with pytest.raises(ValueError, match="no impression: expected events of action_name impression"):
        read_ubi([write_lines(tmp_path / "v.jsonl", [event("impression", "q1", "a", 1, 1)])])


def test_times_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("query,item_id,position,clicked,when\nlamp,a,1,0,2026-11-01T12:00:00Z\nlamp,b,2,1,1793534400\n")
    frame = placed_impressions(path, {"time": "when"})
    assert frame["time"].to_list() == [T0, T0]
    path.write_text("query,item_id,position,clicked,time\nlamp,a,1,0,2026-11-01\nlamp,b,2,1,-3\n")
    with pytest.raises(ValueError, match="row 3, column time: expected a time from 1970 to 2100"):
        placed_impressions(path)


def goodrate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from goodrate.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_the_command_writes_what_can_be_streamed(tmp_path: Path) -> None:
    write_lines(tmp_path / "ubi.ndjson", [*QUERIES, *EVENTS])
    run = goodrate(tmp_path, "events", "ubi.ndjson", "--out", "out.parquet")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("6 impressions of 6 items for 3 queries, 3 clicked (50.00%), 1 without a position")
    assert "events of other actions are left out: product_hover 1" in run.stderr
    stream = stream_events(
        tmp_path / "out.parquet", ids=["query", "item_id"], numbers=["position"], label="clicked", time="time"
    )
    batch = next(stream.batches(100))
    assert batch.labels is not None and batch.labels.tolist() == [0, 1, 0, 0, 1, 1]
    assert batch.numbers["position"][:5].tolist() == [1, 2, 1, 2, 3] and np.isnan(batch.numbers["position"][5])
    assert batch.ids["query"][0].tolist() == hash_texts(pa.array(["red lamp"] * 2 + ["desk"] * 3 + ["chair"])).tolist()
    wrong = goodrate(tmp_path, "events", "ubi.ndjson", "--out", "out.txt")
    assert wrong.returncode == 2 and "--out out.txt: expected a name that ends in" in wrong.stderr


def test_the_command_reads_tables(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("query,sku,position,clicked\nlamp,a,1,0\nlamp,b,2,true\n")
    run = goodrate(tmp_path, "events", "log.csv", "--map", "item_id=sku")
    assert run.stdout.strip() == "2 impressions of 2 items for 1 queries, 1 clicked (50.00%)", run.stderr
    wrong = goodrate(tmp_path, "events", "log.csv", "--map", "item_id=sku", "--clicks", "buy")
    assert wrong.returncode == 2 and "log.csv is no UBI file" in wrong.stderr


def test_times_in_all_forms() -> None:
    texts = ["2026-11-01T12:00:00Z", "2026-11-01T13:00:00+01:00", "2026-11-01 12:00:00.000", "1793534400",
             "1793534400000", "1793534400.0", "x", "-1", "1950-01-01", None]  # fmt: skip
    assert event_times(pl.Series(texts)).to_list() == [T0] * 6 + [None] * 4
