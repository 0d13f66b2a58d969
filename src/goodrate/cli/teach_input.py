"""What `goodrate teach` explains: the labelled pairs of a file with their items, and the rows that cannot be taught."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from goodrate.cli.judge_input import Sources, read_known, texts_of

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.relevance.prompts import Pair
    from goodrate.relevance.rulebook import RuleBook
    from goodrate.scale import RelevanceScale
    from goodrate.teaching.taught_file import TaughtLine
    from goodrate.teaching.teacher import LabelledText, Taught, Teacher
    from goodrate.teaching.typed_item import TypedItem

FORM = "listing"  # the item form of a trained judge, unless its settings say another
UNKNOWN_ITEM, NO_LABEL = "unknown_item", "no_label"


@dataclass(frozen=True)
class Labelled:
    """pairs: those that can be taught. items: of the whole catalogue, or of the pairs.

    rows: query and item of every row of the file. labels: by row, None = it has none. unusable: failure by row.
    """

    pairs: list[LabelledText]
    items: list[TypedItem]
    rows: list[dict[str, Any]]
    labels: list[str | None]
    unusable: dict[int, str]

    def lines(self, taught: Sequence[Taught], teacher: Teacher, book: RuleBook) -> Iterator[TaughtLine]:
        """One line per row of the file, in its order."""
        from goodrate.teaching.taught_file import TaughtLine
        from goodrate.teaching.teacher import Taught

        remaining = iter(taught)
        for number, (row, label) in enumerate(zip(self.rows, self.labels, strict=True)):
            failure = self.unusable.get(number)
            one = Taught(None, teacher.silver, failure) if failure else next(remaining)
            item = {"item_id": row.get("item_id") or "", "item_text": row.get("item_text") or ""}
            about = (label, one.rationale, one.silver, teacher.name, book.hash, one.failure)
            yield TaughtLine(row["query"], item["item_id"], *about, item_text=item["item_text"])


def read_labelled(
    path: Path, sources: Sources, map: str | None, skip_bad: int, scale: RelevanceScale, console: Console
) -> Labelled:
    """The labelled pairs of a file. Raises ValueError and FileNotFoundError naming file, row and column."""
    catalog = sources.items() if sources.catalog is not None or sources.index is not None else None
    find = None if catalog is None else lambda ids: texts_of(catalog, FORM, ids)
    table, known = read_known(path, sources, find, map, skip_bad, console)
    gold, told = iter(table.gold(scale)), iter(known)
    labels = [None if pair is None else next(gold) for pair in table.pairs]
    if all(label is None for label in labels):
        raise ValueError(f"{path}: no row has a label; name its column with --map label=COLUMN")
    rows = table.shown.to_dicts()
    typed = _typed(catalog)
    pairs: list[LabelledText] = []
    unusable: dict[int, str] = {}
    for number, (row, pair, label) in enumerate(zip(rows, table.pairs, labels, strict=True)):
        read = None if pair is None else next(told)  # the same pair, with the facts of its query
        if read is None or label is None:
            unusable[number] = UNKNOWN_ITEM if read is None else NO_LABEL
            continue
        pairs.append(_labelled(read, label, row.get("item_id") or "", typed))
    items = list(typed.values()) or [pair.item for pair in pairs if pair.item is not None]
    named = [None if label is None else scale.labels[label] for label in labels]
    return Labelled(pairs, items, rows, named, unusable)


def _typed(catalog: Catalog | None) -> dict[str, TypedItem]:
    """The typed fields of every item of a catalogue by id; empty without one."""
    from goodrate.teaching.typed_item import from_row

    rows = () if catalog is None else catalog.frame.iter_rows(named=True)
    return {row["id"]: from_row(row) for row in rows}


def _labelled(read: Pair, label: int, item_id: str, typed: dict[str, TypedItem]) -> LabelledText:
    """A pair with its label, its item typed from the catalogue, or from its text where there is none."""
    from goodrate.teaching.teacher import LabelledText
    from goodrate.teaching.typed_item import from_listing

    item = typed[item_id] if typed else from_listing(read.item_text)
    return LabelledText(read.query, read.item_text, label, read.facts, item_id, item)
