"""XML product feeds (RSS 2.0 and Atom with Google's g: names) as tables.

Parsed as a stream by expat; a document type is refused, so there are no entities to expand and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from goodrate.catalog.json_files import records_table
from goodrate.catalog.raw_table import RawTable, Wanted

GOOGLE = "http://base.google.com/ns/1.0"
ITEMS = ("item", "entry")  # of RSS and of Atom
CHUNK = 2**20


def read_feed(path: Path, data: bytes, wanted: Wanted) -> RawTable:
    """The items of a feed; rows are items, from 1. Names are without their prefix, g:title wins over title.

    A name that comes again makes a list, one with parts (installment) a name for each part, and product_detail the
    attribute that it names. Raises ValueError with the line of what is no XML.
    """
    records = enumerate(_records(path, data), start=1)
    table = records_table(path, records, wanted.columns, wanted.ignored, wanted.rename)
    if table.frame.is_empty():
        raise ValueError(f"{path} has no <item> and no <entry>; expected a product feed (RSS 2.0 or Atom)")
    return table


def _records(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    """Every item as name -> text or list of texts."""
    feed = _Feed(path)
    try:
        for start in range(0, len(data), CHUNK):
            feed.parser.Parse(data[start : start + CHUNK], False)
            yield from feed.taken()
        feed.parser.Parse(b"", True)
    except expat.ExpatError as error:
        reason = expat.errors.messages[error.code]
        raise ValueError(f"{path}, line {error.lineno}: not XML that can be read: {reason}") from error
    yield from feed.taken()


class _Element:
    """An open element. ours: whether its name is Google's."""

    def __init__(self, name: str, ours: bool, link: str) -> None:
        self.name, self.ours, self.link = name, ours, link
        self.text: list[str] = []
        self.parts: list[tuple[str, bool, Any]] = []  # (name, ours, value)


class _Feed:
    """The items that a parser has met."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self._open: list[_Element] = []  # from the item on
        self._items: list[dict[str, Any]] = []

    def taken(self) -> list[dict[str, Any]]:
        """The items since the last call."""
        items, self._items = self._items, []
        return items

    def _refuse(self, name: str, *_: Any) -> None:
        line = self.parser.CurrentLineNumber
        raise ValueError(f"{self.path}, line {line}: a document type (<!DOCTYPE {name}>); feeds have none, remove it")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        space, _, local = name.rpartition(" ")
        if self._open or local in ITEMS:
            self._open.append(_Element(local, space == GOOGLE, attributes.get("href", "")))

    def _text(self, text: str) -> None:
        if self._open:
            self._open[-1].text.append(text)

    def _end(self, name: str) -> None:
        if not self._open:
            return
        done = self._open.pop()
        if not self._open:
            self._items.append(_record(done.parts))
            return
        value = done.parts or "".join(done.text).strip() or done.link
        self._open[-1].parts.append((done.name, done.ours, value))


def _record(parts: list[tuple[str, bool, Any]]) -> dict[str, Any]:
    """The parts of an item as name -> text or list of texts."""
    google = {name for name, ours, _ in parts if ours}
    values: dict[str, list[str]] = {}
    for name, ours, value in parts:
        if not ours and name in google:
            continue
        for full, text in _flat(name, value):
            if text and text not in values.setdefault(full, []):
                values[full].append(text)
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in values.items() if texts}


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The texts of an element, under its name or those of its parts."""
    if isinstance(value, str):
        yield name, value
        return
    detail = {part: text for part, _, text in value if isinstance(text, str)}
    if "attribute_name" in detail:
        yield detail["attribute_name"], detail.get("attribute_value", "")
        return
    for part, _, inner in value:
        yield from _flat(f"{name}_{part}", inner)
