"""The context of a query: one text of a corpus, found by the house's retrieval, that a judge may use or ignore.

DyKnow-RAG (arXiv 2510.11122) gives the judge the one best text of a query, at training and at serving alike. The text
hangs on the query alone, so that all items of a query share the prefix that holds it.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from goodrate.catalog.items import Catalog
from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.readers import as_text
from goodrate.catalog.rendering import render_items
from goodrate.catalog.tables import ROW, read_table
from goodrate.retrieval.indexing import index_catalog
from goodrate.retrieval.manifest import is_index
from goodrate.retrieval.query_encoder import SingleQueryEncoder
from goodrate.retrieval.search import Searcher
from goodrate.retrieval.store import Store
from goodrate.retrieval.turns import writing_turn

if TYPE_CHECKING:
    from goodrate.retrieval.indexing import ItemEncoder

KINDS = ("helpful", "irrelevant", "misleading")
COLUMNS = ("id", "text", "kind")
ITEMS = "items"  # in place of a file's name: what the catalogue tells of its items
CHUNK_WORDS, MAX_CHARS = 120, 20_000  # of what a catalogue tells of an item
SEPARATOR = " . "  # between the texts of a prompt that holds several


@dataclass(frozen=True)
class ContextText:
    """One text. kind: what it is worth (KINDS), "" where nobody knows; no judge reads it, reports and gates do."""

    id: str
    text: str
    kind: str = ""


def read_contexts(path: str | Path, skip_bad: int = 0) -> list[ContextText]:
    """The texts of a csv, tsv, jsonl or parquet file with the columns id, text and perhaps kind.

    Raises FileNotFoundError, or ValueError naming file, row, column and what was expected.
    """
    table = read_table(path, set(COLUMNS))
    require_columns(table.path, {name: name for name in COLUMNS}, ("id", "text"), table.columns, option="")
    present = [name for name in COLUMNS if name in table.columns]
    frame = table.frame.select(ROW, *(as_text(table.frame, name).fill_null("").alias(name) for name in present))
    frame = frame if "kind" in present else frame.with_columns(pl.lit("").alias("kind"))
    no_texts = table.text_problems({name: name for name in COLUMNS})
    skipped = tolerate(table.path, [*table.problems, *no_texts, *_problems(frame)], skip_bad)
    usable = frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped]))
    if usable.is_empty():
        raise ValueError(f"{table.path} has no usable row")
    return [ContextText(*row) for row in usable.select(COLUMNS).iter_rows()]


def _problems(frame: pl.DataFrame) -> Iterator[BadRow]:
    seen: set[str] = set()
    for row, name, text, kind in frame.select(ROW, *COLUMNS).iter_rows():
        if not name or name in seen:
            yield BadRow(row, "id", f"an id of its own, found {name!r} again" if name else "an id, found nothing")
        seen.add(name)
        if not text:
            yield BadRow(row, "text", "a text, found nothing")
        if kind not in ("", *KINDS):
            yield BadRow(row, "kind", f"{', '.join(KINDS)} or nothing, found {kind!r}")


def item_contexts(catalog: Catalog) -> list[ContextText]:
    """What a catalogue itself tells: each item's description and its attributes, in parts of at most 120 words.

    Every text begins with the item's title, so that it can be found by the name of the product.
    """
    texts = []
    rendered = [render_items(catalog.frame, (field,), MAX_CHARS) for field in ("description", "attributes")]
    for item, title, *fields in zip(catalog.ids, catalog.frame["title"].to_list(), *rendered, strict=True):
        chunks = [part for field in fields for part in _chunks(field)]
        texts += [ContextText(f"{item}#{number}", f"{title} : {part}") for number, part in enumerate(chunks)]
    return texts


def context_texts(named: str, items: Callable[[], Catalog | None] | None, skip_bad: int = 0) -> list[ContextText]:
    """The texts of a file, or with the name "items" those of a catalogue.

    Raises ValueError where there is no catalogue, FileNotFoundError and ValueError as read_contexts.
    """
    if named != ITEMS:
        return read_contexts(named, skip_bad)
    catalog = items() if items else None
    if catalog is None:
        raise ValueError(f'texts "{ITEMS}" are those of a catalogue, and none is given')
    return item_contexts(catalog)


def _chunks(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[i : i + CHUNK_WORDS]) for i in range(0, len(words), CHUNK_WORDS)]


class ContextFinder:
    """An indexed corpus that gives a query its best texts, or none where nothing matches or the corpus is empty."""

    def __init__(
        self, texts: Sequence[ContextText], folder: str | Path | None = None, encoder: ItemEncoder | None = None
    ) -> None:
        """folder: where the index lies; one that is there is brought up to date. None: a temporary folder that
        goes with the finder. encoder: None = by words alone.

        Raises ValueError for an id that occurs twice, or a folder whose index was made with another encoder.
        """
        self._texts = {text.id: text for text in texts}
        if len(self._texts) < len(texts):
            raise ValueError("the ids of context texts must be unique")
        self._scratch = tempfile.TemporaryDirectory() if folder is None else None
        where = Path(self._scratch.name if self._scratch else str(folder))
        # As typed: a text about what a query excludes is as telling as another.
        turns = SingleQueryEncoder(encoder) if encoder is not None else None  # many searches may ask at once
        self._searcher = Searcher(_indexed(texts, where, encoder), turns, as_typed=True) if texts else None
        self._find = functools.lru_cache(maxsize=100_000)(self._search)

    def find(self, query: str, count: int = 1) -> tuple[ContextText, ...]:
        """At most `count` texts, best first: hybrid with an encoder, lexical without one."""
        return self._find(query, count)

    def line(self, query: str, count: int = 1) -> str | None:
        """They as the context of a prompt, None without any."""
        return joined(self.find(query, count))

    def _search(self, query: str, count: int) -> tuple[ContextText, ...]:
        if self._searcher is None or not query.strip():
            return ()
        return tuple(self._texts[hit.item_id] for hit in self._searcher.search(query, k=count))


def load_context_encoder(folder: str | None) -> ItemEncoder | None:
    """The encoder of a folder, None without one."""
    if folder is None:
        return None
    from goodrate.models.encoder import Encoder

    return Encoder.load(folder)


def context_finder(
    named: str, items: Callable[[], Catalog | None] | None, encoder: str | None = None, folder: Path | None = None
) -> ContextFinder:
    """What finds texts. named, items: as context_texts. encoder: its folder, None = by words alone.

    folder: where the texts' index stays, one for each encoder; None: in a temporary folder.
    """
    loaded = load_context_encoder(encoder)
    name = f"contexts-{loaded.fingerprint[:12]}" if loaded else "contexts"
    return ContextFinder(context_texts(named, items), folder / name if folder else None, loaded)


def joined(texts: Sequence[ContextText]) -> str | None:
    """Texts as the context of a prompt, None without any."""
    return SEPARATOR.join(text.text for text in texts) or None


def _indexed(texts: Sequence[ContextText], folder: Path, encoder: ItemEncoder | None) -> Store:
    """The index of exactly these texts."""
    catalog = Catalog(pl.DataFrame({"id": [t.id for t in texts], "title": [t.text for t in texts]}))
    with writing_turn(folder):
        if is_index(folder):
            store = Store.open(folder)
        else:
            fingerprint, dimension = (encoder.fingerprint, encoder.dimension) if encoder else (None, None)
            store = Store.create(folder, fingerprint, dimension, encoded_fields=("title",))
        index_catalog(store, catalog, encoder)
        gone = set(store.stored_hashes()) - {text.id for text in texts}
        if gone:
            store.remove(sorted(gone))
    return store
