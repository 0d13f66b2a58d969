"""Workbooks: the first sheet is read, ids are whole, and what is wrong is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from goodrate.catalog.judgements import read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.extras import MissingExtra
from goodrate.scale import get_scale
from xlsx_files import Cell, workbook

pytest.importorskip("fastexcel", reason="the extra xlsx is not installed")

ROWS: list[list[Cell]] = [
    ["id", "title", "price", None, "watts"],
    [1001.0, "Desk lamp", 39.5, None, 7],
    [None, None, None, None, None],
    [1002.0, "Rug, 2 m", None, "new", None],
]


def write(tmp_path: Path, sheets: dict[str, list[list[Cell]]]) -> Path:
    path = tmp_path / "shop.xlsx"
    path.write_bytes(workbook(sheets))
    return path


def test_the_first_sheet_is_the_catalogue_and_that_is_said(tmp_path: Path) -> None:
    read = read_catalog(write(tmp_path, {"Products": ROWS, "Old": [["x"]], "Notes": [["y"]]}))
    assert read.frame.select("id", "title", "price").rows() == [("1001", "Desk lamp", 39.5), ("1002", "Rug, 2 m", None)]
    assert [json.loads(text) for text in read.frame["attributes"]] == [{"watts": 7}, {"column_4": "new"}]
    assert read.notes[0] == "of its sheets the first, 'Products', is read (the others: Old, Notes)"
    assert not any("sheets" in note for note in read_catalog(write(tmp_path, {"Products": ROWS})).notes)


def test_ids_that_are_texts_keep_their_zeros_beside_numbers(tmp_path: Path) -> None:
    rows: list[list[Cell]] = [["id", "title"], [1001, "a"], ["007", "b"], ["A-7", "c"]]
    assert read_catalog(write(tmp_path, {"S": rows})).ids == ["1001", "007", "A-7"]


@pytest.mark.parametrize(
    ("sheets", "message"),
    [
        ({"S": [["id", "title"], [1, "a"], [None, None], [2, None]]}, "row 4, column title: expected title"),
        ({"S": [["id", "title", "id"], [1, "a", 2]]}, "row 1: column 'id' occurs twice in the header"),
        ({"S": []}, "sheet 'S' is empty; expected a row of column names"),
        ({"S": [["id", "title"]]}, "has no rows; columns: id, title"),
        ({"S": [["sku", "name"], [1, "a"]]}, "has no column 'id'; nearest: 'sku'"),
    ],
)
def test_wrong_sheets_are_named(tmp_path: Path, sheets: dict[str, list[list[Cell]]], message: str) -> None:
    with pytest.raises(ValueError, match=rf"shop.xlsx.*{message}"):
        read_catalog(write(tmp_path, sheets))


def test_no_workbook_and_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shop.xlsx"
    path.write_bytes(b"id,title\n1,a\n")
    with pytest.raises(ValueError, match="shop.xlsx is not a workbook that can be read"):
        read_catalog(path)
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    with pytest.raises(MissingExtra, match=r'^reading shop.xlsx needs fastexcel: pip install "goodrate\[xlsx\]"'):
        read_catalog(path)


def test_judgements_in_a_workbook_join_a_csv_of_the_same_ids(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,title\n1001,Desk lamp\n1002,Rug\n")
    labels = write(tmp_path, {"S": [["query", "item_id", "label"], ["lamp", 1001.0, 3], ["lamp", 1002.0, 0]]})
    joined = read_judgements(labels, get_scale("graded_0_3")).join(read_catalog(tmp_path / "items.csv"))
    assert joined.qrels() == {"lamp": {"1001": 3, "1002": 0}}
