"""Judgements and splits."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest

from goodrate.catalog.items import Catalog
from goodrate.catalog.judgements import Judgements, read_judgements
from goodrate.catalog.splits import query_groups, split_by_group
from goodrate.scale import ESCI, FOUR_LEVEL, GRADED_0_3, WANDS


def test_labels_become_positions_and_the_query_is_its_own_id(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("query,docid,rating\nlamp,1,3\nlamp,2,0\ndesk,1,1.0\nlamp,1,3\n")
    judged = read_judgements(path, GRADED_0_3, format="chorus")
    assert judged.qrels() == {"lamp": {"1": 3, "2": 0}, "desk": {"1": 1}}
    assert judged.queries() == {"lamp": "lamp", "desk": "desk"}
    assert judged.frame.row(2) == ("desk", "desk", "1", "1")


def test_bad_judgements_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("query,item_id,label\nlamp,1,excellent\nlamp,1,related\nlamp,2,great\n,3,1\n")
    with pytest.raises(ValueError) as caught:
        read_judgements(path, FOUR_LEVEL)
    text = str(caught.value)
    assert "has 3 bad rows" in text
    assert "row 3, column label: expected one label a pair; row 2 gives another" in text
    assert "row 4, column label: expected one of irrelevant, mismatch" in text and "found 'great'" in text
    assert "row 5, column query: expected query to be filled, found nothing" in text
    assert len(read_judgements(path, FOUR_LEVEL, skip_bad=3)) == 1
    with pytest.raises(ValueError, match=r"no column 'label'.*nearest: 'rating' \(--map label=rating, in training"):
        (tmp_path / "b.csv").write_text("query,item_id,rating\nlamp,1,1\n")
        read_judgements(tmp_path / "b.csv", FOUR_LEVEL)


def test_join_counts_what_is_lost() -> None:
    rows = [("q1", "lamp", "a", "4"), ("q1", "lamp", "x", "1"), ("q2", "desk", "y", "2"), ("q2", "desk", "x", "2")]
    judged = Judgements(pl.DataFrame(rows, schema=["query_id", "query", "item_id", "label"], orient="row"), FOUR_LEVEL)
    kept = judged.join(Catalog(pl.DataFrame({"id": ["a", "b"], "title": ["lamp", "desk"]})))
    report = kept.join_report
    assert report is not None and kept.qrels() == {"q1": {"a": 3}}
    assert (report.pairs, report.joined, report.unknown_items, report.lost_queries) == (4, 1, 2, 1)  # x and y
    with pytest.raises(ValueError, match="none of the 3 judged items is in the catalogue"):
        judged.join(Catalog(pl.DataFrame({"id": ["z"], "title": ["z"]})))


def test_esci_and_wands_as_published(tmp_path: Path) -> None:
    esci = {
        "query": ["lamp", "lampe"],
        "query_id": [5, 6],
        "product_id": ["B1", "B2"],
        "product_locale": ["us", "de"],
        "esci_label": ["E", "C"],
    }
    pl.DataFrame(esci).write_parquet(tmp_path / "examples.parquet")
    assert read_judgements(tmp_path / "examples.parquet", ESCI, format="esci").qrels() == {
        "5": {"B1": 3},
        "6": {"B2": 1},
    }
    assert len(read_judgements(tmp_path / "examples.parquet", ESCI, format="esci:us")) == 1

    (tmp_path / "label.csv").write_text("id\tquery_id\tproduct_id\tlabel\n0\t7\t12\tPartial\n")
    with pytest.raises(FileNotFoundError, match=r"query\.csv; WANDS labels need it"):
        read_judgements(tmp_path / "label.csv", WANDS, format="wands")
    (tmp_path / "query.csv").write_text("query_id\tquery\tquery_class\n7\toak bed\tBeds\n")
    judged = read_judgements(tmp_path, WANDS, format="wands")
    assert judged.frame.row(0) == ("7", "oak bed", "12", "partial")

    nested = [{"query": "lamp", "judgments": [{"product_id": "B1", "rating": 100, "esci_label": "E"}]}]
    (tmp_path / "lists.json").write_text(json.dumps(nested))
    assert read_judgements(tmp_path / "lists.json", ESCI, format="esci").qrels() == {"lamp": {"B1": 3}}


def test_near_identical_queries_share_a_group() -> None:
    queries = [
        "iphone 7",
        "iphone 8",
        "iPhone X",
        "aa",
        "AA battery",
        "bluetooth speakers",
        "speaker bluetooth",
        "desk",
    ]
    assert query_groups(queries) == [0, 0, 0, 1, 1, 2, 2, 3]
    assert query_groups(["7", "8", "watches", "watch", "glass"]) == [0, 1, 2, 2, 3]  # bare numbers stay apart
    # "lamp" is in four other queries: it says nothing about which of them are alike.
    assert query_groups(["lamp", "red lamp", "oak lamp", "lamp shade", "floor lamp"]) == [0, 1, 2, 3, 4]
    assert query_groups([]) == []


def test_no_group_is_cut_and_the_order_of_queries_does_not_matter() -> None:
    queries = [
        f"{color} {thing} {n}"
        for color in ("red", "oak", "big")
        for thing in ("lamp", "desk", "rug", "bed")
        for n in range(5)
    ]
    parts = split_by_group(queries, {"train": 0.5, "dev": 0.25, "test": 0.25}, seed=3)
    assert {name: len(members) for name, members in parts.items()} == {
        "train": 30,
        "dev": 15,
        "test": 15,
    }  # 12 groups of 5
    groups = dict(zip(queries, query_groups(queries), strict=True))
    owners = {(groups[query], name) for name, members in parts.items() for query in members}
    assert len(owners) == 12  # every group in one part only
    shuffled = random.Random(0).sample(queries, len(queries))
    assert split_by_group(shuffled, {"train": 0.5, "dev": 0.25, "test": 0.25}, seed=3) == parts
    assert split_by_group(queries, {"train": 0.5, "dev": 0.25, "test": 0.25}, seed=4) != parts
    assert sum(map(len, split_by_group(queries, {"train": 0.5}, seed=3).values())) == 30
    with pytest.raises(ValueError, match="sum to at most 1"):
        split_by_group(queries, {"train": 0.9, "test": 0.2}, seed=0)
