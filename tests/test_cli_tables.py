"""Tables of the command line: names and numbers stay whole in a terminal that is too narrow for them."""

from __future__ import annotations

import pytest
from rich.table import Column, Table

from goodrate.cli.terminal import print_table


def printed(table: Table, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(table)
    return capsys.readouterr().out


def test_no_name_is_broken_or_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(Column("clip", no_wrap=True), "what it shows", Column("worst", justify="right"), box=None)
    name = "a folder/" + "x" * 40 + " of clips.webp"
    table.add_row(name, "a red lamp turns", "3.25")
    table.add_row("b.webp", "nothing", "1.00")
    shown = printed(table, 30, monkeypatch, capsys)
    assert name in shown and "3.25" in shown and "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert "nothing" in shown and len(shown.splitlines()) == 1 + 4 + 1  # the text gives way, word by word


def test_texts_share_the_room_that_is_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("title", Column("id", no_wrap=True), Column("brand", no_wrap=True, max_width=6), box=None)
    table.add_row("one two three four five six seven eight nine ten", "x" * 20, "a long brand")
    shown = printed(table, 60, monkeypatch, capsys)
    assert max(map(len, shown.splitlines())) <= 60 and "x" * 20 in shown and "a lon" in shown
    assert len(shown.splitlines()) == 3  # 48 characters in the 26 that are left
    wide = printed(table, 200, monkeypatch, capsys)
    assert "one two three four five six seven eight nine ten" in wide
