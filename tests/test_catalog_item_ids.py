"""Ids that two files write differently: with .0, and without the leading zeros that a spreadsheet drops."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from goodrate.api.judging import ItemSource, read_pair_file
from goodrate.catalog.item_ids import match_ids
from goodrate.catalog.items import Catalog
from goodrate.catalog.judgements import Judgements, read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.examples.settings import DataSettings
from goodrate.examples.sources import load_data
from goodrate.scale import get_scale

SCALE = get_scale("graded_0_3")


def catalog(*ids: str) -> Catalog:
    return Catalog(pl.DataFrame({"id": ids, "title": [f"item {item}" for item in ids]}))


def judged(*ids: str) -> Judgements:
    rows = {"query_id": ["lamp"] * len(ids), "query": ["lamp"] * len(ids), "item_id": ids, "label": ["3"] * len(ids)}
    return Judgements(pl.DataFrame(rows), SCALE)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,title\n1001.0,a\n1002.0,b\n"),
        ("a.jsonl", '{"id": 1001.0, "title": "a"}\n{"id": 1002.0, "title": "b"}\n'),
        ("a.json", json.dumps([{"id": 1001.0, "title": "a"}, {"id": 1002.0, "title": "b"}])),
    ],
)
def test_ids_that_all_are_whole_floats_lose_their_point_zero(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    read = read_catalog(tmp_path / name)
    assert read.ids == ["1001", "1002"]
    assert "ids are whole numbers and are taken without their .0 (1001.0)" in read.notes


def test_ids_that_are_texts_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,title\n1001.0,a\n007,b\n1.50,c\nv2.0,d\n")
    assert read_catalog(tmp_path / "a.csv").ids == ["1001.0", "007", "1.50", "v2.0"]


@pytest.mark.parametrize(
    ("ids", "known", "renamed"),
    [
        (["1001.0", "1002"], ["1001", "1002"], {"1001.0": "1001"}),
        (["1001"], ["1001.0", "x"], {"1001": "1001.0"}),
        (["123", "5"], ["00123", "5", "0x5"], {"123": "00123"}),
        (["123.0"], ["00123"], {"123.0": "00123"}),
        (["0"], ["000", "10"], {"0": "000"}),
        (["00123"], ["123"], {"00123": "123"}),
        (["7"], ["7", "007"], {}),  # as it stands it is there
        (["a01", "1.5", "12"], ["a1", "15", "1200"], {}),
    ],
)
def test_ids_are_matched(ids: list[str], known: list[str], renamed: dict[str, str]) -> None:
    match = match_ids(ids, known)
    assert dict(match.renamed.rows()) == renamed
    assert match.apply(pl.Series(ids)).to_list() == [renamed.get(item, item) for item in ids]


@pytest.mark.parametrize(
    ("ids", "known", "message"),
    [
        (["123"], ["00123", "0123"], "item id '123' can be '00123' or '0123' of the catalogue; expected ids as the"),
        (["123", "0123"], ["00123"], "item '00123' of the catalogue is written '123' and '0123' in one file"),
        (["00123", "123"], ["00123"], "item '00123' of the catalogue is written '123' and '00123' in one file"),
    ],
)
def test_what_cannot_be_told_is_refused_and_both_are_named(ids: list[str], known: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match_ids(ids, known)


def test_judgements_join_and_say_so() -> None:
    joined = judged("123", "7.0", "9").join(catalog("00123", "7", "8"))
    assert joined.qrels() == {"lamp": {"00123": 3, "7": 3}}
    assert str(joined.join_report) == (
        "2 of 3 judgements join the catalogue; 1 judged items are not in the catalogue; 2 item ids are written "
        "otherwise, with other leading zeros or .0, such as '123' for '00123'"
    )
    assert str(judged("7").join(catalog("7")).join_report) == "1 of 1 judgements join the catalogue"


def test_files_of_a_spreadsheet_join(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,title\n00123,lamp\n00124,rug\n")
    (tmp_path / "labels.csv").write_text("query,item_id,label\nlamp,123,3\nlamp,124,0\n")
    joined = read_judgements(tmp_path / "labels.csv", SCALE).join(read_catalog(tmp_path / "items.csv"))
    assert joined.qrels() == {"lamp": {"00123": 3, "00124": 0}}


def test_clicks_and_labels_of_training_join_and_say_so(tmp_path: Path) -> None:
    nouns = ["lamp", "kettle", "chair", "sofa", "spoon", "tent", "radio", "glove", "scarf", "clock"]
    labels = "".join(f"{noun},{n},{4 - n}\n" for noun in nouns for n in (1, 2))
    (tmp_path / "items.csv").write_text("id,title\n001,Lamp\n002,Kettle\n")
    (tmp_path / "labels.csv").write_text(f"query,item_id,label\n{labels}")
    (tmp_path / "clicks.csv").write_text("query,item_id\nvelto mug,1\nvelto mug,9\n")
    names = {"catalog": "items.csv", "judgements": "labels.csv", "behaviour": "clicks.csv"}
    data = load_data(DataSettings(scale="four_level", **{name: str(tmp_path / file) for name, file in names.items()}))
    assert data.clicks == [("velto mug", "001", 1.0)]
    assert "20 of 20 judgements join the catalogue; 2 item ids are written otherwise" in data.notes[0]
    assert data.notes[-1].startswith("1 of 2 clicked pairs are used; 1 item id is written otherwise")


def test_pairs_to_judge_find_their_items_and_say_so(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,title\n00123,lamp\n7,rug\n")
    (tmp_path / "pairs.csv").write_text("query,item_id\nlamp,123\nrug,7\nrug,9\n")
    table = read_pair_file(tmp_path / "pairs.csv", ItemSource(tmp_path / "items.csv"))
    assert [pair.item["title"] if pair else None for pair in table.pairs] == ["lamp", "rug", None]
    assert table.shown["item_id"].to_list() == ["123", "7", "9"]  # as the file says it
    assert table.renamed == "1 item id is written otherwise, with other leading zeros or .0, such as '123' for '00123'"
    (tmp_path / "pairs.csv").write_text("query,item_text\nlamp,red lamp\n")
    assert read_pair_file(tmp_path / "pairs.csv", ItemSource()).renamed == ""


def test_many_ids_are_matched() -> None:
    known = [f"{n:08d}" for n in range(50_000)]
    match = match_ids([str(n) for n in range(50_000)], known)
    assert len(match.renamed) == 50_000 and match.apply(pl.Series(["77"])).to_list() == ["00000077"]
