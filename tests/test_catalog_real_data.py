"""The readers on the real files of shared/data; skipped where they are absent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from goodrate.catalog.judgements import read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.splits import query_groups
from goodrate.scale import ESCI, GRADED_0_3

DATA = Path(os.environ.get("GOODRATE_DATA", Path(__file__).parents[2] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (DATA / "chorus").is_dir(), reason="shared/data is not here")


def test_chorus_catalogue_and_ratings_join() -> None:
    catalog = read_catalog(DATA / "chorus" / "products.jsonl.gz", format="chorus")
    judged = read_judgements(DATA / "chorus" / "ratings.csv", GRADED_0_3, format="chorus")
    assert (len(catalog), catalog.frame["brand"].n_unique(), len(judged)) == (19_406, 161, 2_414)
    assert catalog.frame["price"].median() == 52.95  # 5,295 cents
    assert max(len(json.loads(text)) for text in catalog.frame["attributes"].head(500)) > 20
    report = judged.join(catalog).join_report
    assert (report.joined, report.unknown_items, report.lost_queries) == (2_414, 0, 0)
    assert sorted(judged.frame["label"].value_counts().rows()) == [("0", 1213), ("1", 144), ("2", 73), ("3", 984)]
    queries = list(judged.queries().values())
    groups = dict(zip(queries, query_groups(queries), strict=True))
    for one, other in (("iphone 7", "iphone x"), ("aa", "aa battery"), ("smart watch", "smartwatch")):
        assert groups[one] == groups[other]


def test_esci_samples() -> None:
    catalog = read_catalog(DATA / "esci" / "sample_products.jsonl", format="esci:us")
    pairs = read_judgements(DATA / "esci" / "sample_pairs.parquet", ESCI, format="esci")
    assert pairs.join(catalog).join_report.joined == 16
    lists = read_judgements(DATA / "esci" / "esci_us_judgments.json", ESCI, format="esci")
    counts = dict(lists.frame["label"].value_counts().rows())
    assert counts == {"exact": 2198, "substitute": 1300, "complement": 201, "irrelevant": 761}


def test_the_workbench_export_equals_the_csv_of_the_same_judgements() -> None:
    export = read_judgements(DATA / "esci150" / "srw_judgements.json")
    plain = read_judgements(DATA / "esci150" / "judgements.csv")
    assert len(plain) == 4460 and export.frame.equals(plain.frame) and export.scale == plain.scale == ESCI


def test_the_raters_of_chorus_are_told_and_merged() -> None:
    path = DATA / "chorus" / "individual_ratings.csv"
    judged = read_judgements(path, raters=["agent_*_rating"], mapping={"item_id": "docid"})
    report = judged.read.merge
    assert report is not None and (report.raters, report.pairs) == (3, 2133)
    assert (report.several, report.differing) == (2133, 577)
    final = read_judgements(path, mapping={"item_id": "docid", "label": "final_rating"})
    same = judged.frame.join(final.frame, on=["query_id", "item_id", "label"], how="semi")
    assert round(len(same) / len(judged), 2) == 0.89  # the data's own page says so of the median
