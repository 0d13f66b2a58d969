"""Impressions of files: what is read, and what is refused with its row."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from goodrate.catalog.behaviour import read_clicks
from goodrate.catalog.impressions import Impressions, placed_impressions

ROWS = [("Desk lamp", "a", 1, True), ("Desk lamp", "b", 2, False), ("kettle", "a", 1, False)]
FRAME = pl.DataFrame(ROWS, schema=["query", "item_id", "position", "clicked"], orient="row")


def test_files_of_every_kind_say_the_same(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "a.parquet")
    FRAME.write_csv(tmp_path / "a.csv")
    FRAME.with_columns(pl.col("clicked").cast(pl.Int8)).write_ndjson(tmp_path / "a.jsonl")
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        assert placed_impressions(tmp_path / name).rows() == ROWS
    assert placed_impressions(tmp_path).rows() == ROWS * 3
    renamed = FRAME.rename({"query": "q", "clicked": "ctr"})
    renamed.write_csv(tmp_path / "b.csv")
    assert placed_impressions(tmp_path / "b.csv", {"query": "q", "clicked": "ctr"}).rows() == ROWS
    with pytest.raises(ValueError, match=r"(?s)query.*--set events_map.query"):
        placed_impressions(tmp_path / "b.csv")


def test_impressions_as_columns() -> None:
    log = Impressions.of(FRAME)
    assert (log.queries, log.items) == (["Desk lamp", "kettle"], ["a", "b"]) and len(log) == 3
    assert (log.query.tolist(), log.item.tolist()) == ([0, 0, 1], [0, 1, 0])
    assert (log.position.tolist(), log.clicked.tolist()) == ([1, 2, 1], [True, False, False])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("lamp,a,0,1", "position: expected a whole number from 1"),
        ("lamp,a,1.5,1", "position: expected a whole number from 1"),
        ("lamp,a,,1", "position: expected a whole number from 1"),
        ("lamp,a,1,2", "clicked: expected 0 or 1"),
        ("lamp,a,1,", "clicked: expected 0 or 1"),
        ("lamp,a,1,nan", "clicked: expected 0 or 1"),
        (",a,1,1", "query"),
        ("lamp,,1,1", "item_id"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, told: str) -> None:
    (tmp_path / "log.csv").write_text(f"query,item_id,position,clicked\nlamp,b,1,0\n{row}\n")
    with pytest.raises(ValueError, match=f"(?s)log.csv.*row 3.*{told}"):
        placed_impressions(tmp_path / "log.csv")
    assert len(placed_impressions(tmp_path / "log.csv", skip_bad=1)) == 1


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no event file"):
        placed_impressions(tmp_path)
    with pytest.raises(FileNotFoundError):
        placed_impressions(tmp_path / "none.csv")


def test_clicks_of_impressions_are_the_clicked_rows(tmp_path: Path) -> None:
    """A log of impressions is no list of clicks: without that, what was only seen would be taught as chosen."""
    FRAME.write_parquet(tmp_path / "log.parquet")
    assert read_clicks(tmp_path / "log.parquet").frame.rows() == [("Desk lamp", "a", 1.0)]
    (tmp_path / "log.csv").write_text("query,item_id,clicked\nlamp,a,1\nlamp,b,maybe\n")
    with pytest.raises(ValueError, match="row 3, column clicked: expected 0 or 1"):
        read_clicks(tmp_path / "log.csv")
    FRAME.with_columns(weight=pl.lit(2.0)).write_csv(tmp_path / "weighed.csv")  # a weight says more
    assert len(read_clicks(tmp_path / "weighed.csv").frame) == 3
