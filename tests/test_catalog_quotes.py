"""Stray quotes that swallow rows are refused with the row where they open; quoted texts of several lines are read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
from pathlib import Path

import pytest

from goodrate.catalog.judgements import read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.tables import read_table
from goodrate.scale import get_scale

DATA = Path(os.environ.get("GOODRATE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def lamps(separator: str = ",", strays: dict[int, str] | None = None, count: int = 100) -> str:
    """Rows 2 to count + 1: an id, a title and a price. strays: row -> its text in place of the usual one."""
    rows = {row: f"{row},Lamp {row},{row}" for row in range(2, count + 2)} | (strays or {})
    return "\n".join(["id,title,price", *rows.values()]).replace(",", separator) + "\n"


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "|")])
@pytest.mark.parametrize("other", ['33,"Lamp 33,33', '33,TV 33",33', '33,TV,33"'])
def test_two_stray_quotes_are_named(tmp_path: Path, name: str, separator: str, other: str) -> None:
    """Read by the rules of csv alone, 31 of the 100 rows are inside one title, and nothing is wrong with the rest."""
    path = tmp_path / name
    path.write_text(lamps(separator, {2: '2,"Lamp 2,2', 33: other}))
    with pytest.raises(ValueError, match="row 2, column title: a quote opens and takes in 31 more lines") as caught:
        read_catalog(path)
    assert "\n" not in str(caught.value) and "remove the quote, or close it, or double it" in str(caught.value)
    with pytest.raises(ValueError, match="row 2, column title: a quote opens"):  # rows lost cannot be tolerated
        read_catalog(path, skip_bad=50)


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ({5: '5,"Lamp 5,5', 6: '6,"Lamp 6",6'}, "row 5, column title: a quote opens and takes in 1 more line as"),
        ({5: '"5,Lamp 5,5', 6: '"6,Lamp 6,6'}, "row 5, column id: a quote opens and takes in 1 more line as"),
        ({5: '5,Lamp 5,"5', 9: '9,Lamp 9,"9'}, "row 5, column price: a quote opens and takes in 4 more lines"),
        ({5: '5,"Lamp 5,5', 9: '9,"",9', 12: '12,TV 12",12'}, "row 5, column title: a quote opens and takes in 7"),
        ({5: '5,"Lamp, 5",5', 7: '7,"Lamp 7,7', 9: '9,"big, red",9'}, "row 7, column title: a quote opens and takes"),
        ({3: '3,"a\nb",3', 7: '7,"Lamp 7,7', 9: '9,"x,9'}, r"row 7 \(line 8\), column title: a quote opens and takes"),
        ({90: '90,"Lamp,5'}, "row 90, column title: a quote opens and never closes; expected one more"),
        ({5: '5,"Lamp 5,5', 9: '9,"\nLamp 9",9'}, "row 5, column title: a quote opens and takes in 4 more lines"),
        ({2: '2,"Lamp 2,2', 101: '101,Lamp",5'}, "row 2, column title: a quote opens and takes in 99 more lines"),
    ],
)  # fmt: skip
def test_every_way_to_swallow_rows(tmp_path: Path, rows: dict[int, str], place: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lamps(strays=rows))
    with pytest.raises(ValueError, match=place):
        read_catalog(path, skip_bad=50)


def test_all_stray_quotes_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lamps(strays={row: f'{row},"Lamp {row},{row}' for row in (3, 5, 20, 28)}))
    with pytest.raises(ValueError) as caught:
        read_catalog(path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("has 2 quotes that swallow rows:") and len(lines) == 3
    assert "row 3, " in lines[1] and "row 18 (line 20), " in lines[2]


def test_judgements_are_read_by_the_same_reader(tmp_path: Path) -> None:
    rows = [f"lamp {n % 7},item-{n},{n % 4}" for n in range(60)]
    rows[4], rows[30] = '"lamp 4,item-4,0', 'lamp 2",item-30,2'
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(["query,item_id,label", *rows]))
    with pytest.raises(ValueError, match=r"labels.csv, row 6, column query: a quote opens and takes in 26 more lines"):
        read_judgements(path, get_scale("graded_0_3"))


def test_texts_of_several_lines_are_read_as_they_are(tmp_path: Path) -> None:
    """What a csv writer quotes: line breaks, separators, doubled quotes, empty lines, lists with as many commas."""
    texts = [
        "One line\nand another", "Size: 20 cm, 5\" base\nWeight, 3 kg, without bulb\n", "\n\nfirst, second",
        'He said "good", twice,\nand "well", once', "a, b, c\nd, e, f\ng, h, i", "tea\r\ncoffee", "Red\nblue",
        "7,8\n9,10",
    ]  # fmt: skip
    items = [[f"sku-{n}", f"Lamp {n}", text, str(n)] for n, text in enumerate(texts * 5)]
    for separator in (",", ";", "\t", "|"):
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
            file = io.StringIO()
            writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator="\r\n")
            writer.writerows([["id", "title", "description", "price"], *items])
            path = tmp_path / "a.csv"
            path.write_bytes(file.getvalue().encode())
            found = read_catalog(path).frame
            assert found["id"].to_list() == [row[0] for row in items]
            assert found["description"].to_list() == [row[2].strip() for row in items]
            assert found["price"].to_list() == [float(row[3]) for row in items]


def test_random_texts_of_writers_are_never_refused(tmp_path: Path) -> None:
    dice = random.Random(0)
    words = ["red", "a, b", '5"', "\n", "x,y,z", "1,2", "\n3,lamp,4", '""', ";", "tab\t", "|"]
    for trial in range(60):
        items = [[f"id{n}", " ".join(dice.choices(words, k=6)) + "end", f"{n}.5"] for n in range(30)]
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([["id", "title", "price"], *items])
        path = tmp_path / f"{trial}.csv"
        path.write_bytes(file.getvalue().encode())
        assert read_catalog(path).ids == [row[0] for row in items]


def test_two_columns_of_free_text_may_hold_lines_with_as_many_separators(tmp_path: Path) -> None:
    rows = [[f"Lamp number {'x' * n}", "red, blue\nsmall, large\noak, steel\nround, flat"] for n in range(40)]
    file = io.StringIO()
    csv.writer(file).writerows([["title", "description"], *rows])
    (tmp_path / "a.csv").write_bytes(file.getvalue().encode())
    assert len(read_table(tmp_path / "a.csv", ()).frame) == 40


@pytest.mark.skipif(not (DATA / "esci150").is_dir(), reason="shared/data is not here")
@pytest.mark.parametrize("separator", [",", ";"])
def test_real_texts_of_several_lines_are_read(tmp_path: Path, separator: str) -> None:
    """6,277 of these 6,764 bullet lists have line breaks, and many have as many separators a line as the header."""
    with gzip.open(DATA / "esci150" / "products.jsonl.gz", "rt", encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    for columns in (["product_id", "product_title", "product_bullet_point"], ["product_title", "product_bullet_point"]):
        with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=separator, lineterminator="\n")
            writer.writerows([columns, *([item[name] for name in columns] for item in items)])
        assert len(read_table(tmp_path / "a.csv", ()).frame) == 6764
