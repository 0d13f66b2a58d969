"""Synonyms: what a file may say, what is wrong with it, and how many alternatives a query gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.catalog.query_log import read_query_log
from goodrate.retrieval.rewriting.synonyms import Alternative, Synonyms
from goodrate.retrieval.rewriting.words import comparable

FILE = """
# Solr's format
laptop, Notebook, portable computer   # each finds the others
tv, telly => television, flat screen
café, coffee house
usb stick, flash drive
stick => rod
"""
SHOP = Synonyms.parse(FILE, "synonyms.txt")


def texts(query: str, most: int = 8) -> list[str]:
    return [alternative.text for alternative in SHOP.expand(query, most)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("laptops", ["Notebook", "portable computer"]),
        ("cheap NOTEBOOKS, 15", ["cheap laptop, 15", "cheap portable computer, 15"]),
        ("portable computers", ["laptop", "Notebook"]),
        ("tv", ["television", "flat screen"]),
        ("television", []),  # one way
        ("flat screen", []),
        ("cafe", ["coffee house"]),
        ("coffee houses", ["café"]),
        ("café case", ["coffee house case"]),
        ("usb sticks", ["flash drive"]),  # the longest phrase, not stick
        ("walking stick", ["walking rod"]),
        ("laptop notebook", ["Notebook notebook", "portable computer notebook", "laptop laptop",
                             "laptop portable computer", "Notebook laptop", "Notebook portable computer",
                             "portable computer laptop", "portable computer portable computer"]),
        ("portable", []),
        ("", []),
        ("zebra", []),
    ],
)  # fmt: skip
def test_alternatives(query: str, expected: list[str]) -> None:
    assert texts(query) == expected


def test_an_alternative_says_what_it_replaced() -> None:
    assert SHOP.expand("tv café")[3] == Alternative(
        "television coffee house", (("tv", "television"), ("café", "coffee house"))
    )


def test_alternatives_are_bounded_and_the_fewest_replacements_come_first() -> None:
    query = " ".join(["laptop tv usb stick"] * 20)
    assert [len(one.replaced) for one in SHOP.expand(query, 200)] == [1] * 100 + [2] * 100
    assert SHOP.expand(query, 3) == SHOP.expand(query, 200)[:3] and SHOP.expand(query, 0) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("laptop", "expected 'laptop, notebook' (both ways) or 'tv => television' (one way), found 'laptop'"),
        ("a => b => c", "'=>' stands there 2 times"),
        ("laptop,, notebook", "an empty phrase on the line"),
        ("laptop, ", "an empty phrase on the line"),
        ("=> notebook", "an empty phrase on left of '=>'"),
        ("laptop =>", "an empty phrase on right of '=>'"),
        ("laptop, !!", "'!!' has no word on the line"),
        ("laptop, Laptops", "'laptop' and 'Laptops' are one phrase"),
        ("tv => television, TV", "'tv' and 'TV' are one phrase"),
        ("laptop, a b c d e f g", "'a b c d e f g' has 7 words; a phrase has at most 6"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "own.txt"
    path.write_text(f"# comment\n\nlamp, light\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError) as error:
        Synonyms.read(path)
    assert str(error.value).startswith(f"{path}, line 4: {message}") and "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.txt; expected a text file with lines such as"):
        Synonyms.read(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("lamp, light\ncaf\xe9, bar\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt, line 2: byte 0xe9 is not UTF-8"):
        Synonyms.read(tmp_path / "latin.txt")
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbflamp, light\r\n")
    assert Synonyms.read(tmp_path / "windows.txt").others == {("lamp",): ["light"], ("light",): ["lamp"]}
    (tmp_path / "empty.txt").write_bytes(b"")
    assert len(Synonyms.read(tmp_path / "empty.txt")) == 0


WORD = st.sampled_from(["lamp", "lamps", "light", "tv", "café", "usb stick", "Ωmega"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(WORD, min_size=2, max_size=3, unique_by=comparable), max_size=4),
    st.lists(WORD, max_size=5),
    st.integers(0, 6),
)
def test_alternatives_differ_from_each_other_and_from_the_query(
    rules: list[list[str]], query: list[str], most: int
) -> None:
    book = Synonyms.parse("\n".join(", ".join(rule) for rule in rules), "rules")
    found = [comparable(one.text) for one in book.expand(" ".join(query), most)]
    assert len(found) <= most and len(set(found)) == len(found) and comparable(" ".join(query)) not in found


def test_query_log(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("query,count\nlamp,3\ndesk,1\nlamp,2.5\n")
    assert read_query_log(path) == [("lamp", 5.5), ("desk", 1.0)]
    path.write_text("search,n\nlamp,3\n")
    assert read_query_log(path, {"query": "search", "count": "n"}) == [("lamp", 3.0)]
    path.write_text("query\nlamp\nlamp\n")
    assert read_query_log(path) == [("lamp", 2.0)]
    path.write_text("query,count\nlamp,-3\n,4\ndesk,x\nsofa,1\n")
    with pytest.raises(ValueError, match="log.csv has 3 bad rows"):
        read_query_log(path)
    assert read_query_log(path, skip_bad=3) == [("sofa", 1.0)]
    path.write_text("words,count\nlamp,3\n")
    with pytest.raises(ValueError, match="has no column 'query'"):
        read_query_log(path)
