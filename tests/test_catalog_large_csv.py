"""A csv file of several blocks reads like one of a single block: files of more than 2 GiB have several."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow.csv
import pytest

from goodrate.catalog import delimited, tables
from goodrate.catalog.tables import read_table


def varied_rows(count: int) -> list[str]:
    """Rows with line breaks, doubled and lone quotes, blank ones, and some with too many or too few fields."""
    dice = random.Random(0)
    kinds = ["{0},t{0},{0}", '{0},"a\n b, ""q"" {0}",1', '{0},5" pipe,2', "{0},x,y,z", "{0}", "", "{0},,"]
    return [dice.choice(kinds).format(number) for number in range(count)]


@pytest.mark.parametrize("block", [1024, 1500, 4096])
def test_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    path = tmp_path / "feed.csv"
    path.write_text("\n".join(["id,title,price", *varied_rows(2000)]) + "\n")
    whole = read_table(path, {"id", "title"})
    monkeypatch.setattr(delimited, "BLOCK", block)
    assert path.stat().st_size > 4 * block
    parts = read_table(path, {"id", "title"})
    assert len(whole.problems) > 100 and parts.problems == whole.problems  # with the numbers of their rows
    assert parts.frame.equals(whole.frame) and parts.columns == whole.columns


def test_a_block_is_as_large_as_arrow_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 3 GiB, as far as its length is concerned."""

    class Long(bytes):
        def __len__(self) -> int:
            return 3 * 2**30

    path = tmp_path / "feed.csv"
    path.write_text("id,title\na,lamp\n")
    monkeypatch.setattr(tables, "unpacked_bytes", lambda path: Long(path.read_bytes()))
    blocks: list[int] = []
    options = pyarrow.csv.ReadOptions
    monkeypatch.setattr(
        pyarrow.csv, "ReadOptions", lambda **named: (blocks.append(named["block_size"]), options(**named))[1]
    )
    assert read_table(path, {"id", "title"}).frame["title"].to_list() == ["lamp"]
    assert blocks == [2**30]
