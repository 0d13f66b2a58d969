"""The index on disk: items, vectors and full text in one LanceDB table, and a store.json that says what made it.

A write is one atomic commit, so an index that was being filled when the power went can be searched and filled further:
rows that the full-text index does not know yet are scanned by the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from goodrate.catalog.items import ITEM_COLUMNS, Catalog
from goodrate.catalog.rendering import RENDERED_FIELDS, check_fields
from goodrate.retrieval import full_text, vector_index
from goodrate.retrieval.facet_rows import FacetRows
from goodrate.retrieval.filled_in import layered as with_layer
from goodrate.retrieval.filter_columns import IndexColumns
from goodrate.retrieval.filters import filter_sql
from goodrate.retrieval.fusion import Hit
from goodrate.retrieval.languages import check_language
from goodrate.retrieval.manifest import MANIFEST, Manifest, is_index
from goodrate.retrieval.opened import OpenedIndex
from goodrate.retrieval.places import Places
from goodrate.retrieval.remote import located
from goodrate.retrieval.row_columns import text_hashes as text_hashes
from goodrate.retrieval.row_columns import with_row_columns
from goodrate.retrieval.table import IndexDamaged, create_table, id_condition, rows
from goodrate.retrieval.turns import writing_turn

WRITE_ROWS = 10_000  # rows a commit: bounds the memory of a large upsert
COMMON = 20  # items that share an identifier; a word that more of them share is none
ID_ROWS = 1000  # ids in one condition
# Hits fetched beyond k, so that ties at the edge are usually settled by one search. Alike items tie often: with 16 the
# generated shop needed two searches a query, with 100 one and half the time; a real catalogue ran as fast with either.
TIE_MARGIN = 100


class Store:
    """An open index. Scores are higher-is-better; equal scores are ordered by item id.

    Reading: what others write is seen by the next read. When the folder is removed and made anew, or another process
    deletes old versions, an open index goes on with what is there then (see reload); a search works, or raises one of
    FileNotFoundError (the folder holds no index), IndexReplaced (one of another encoder: open it, and its encoder,
    anew) and IndexDamaged. A server need do nothing for an index that is brought up to date. To take over one that
    another encoder made without a search that fails, it asks `changed()` now and then (one stat call) and opens the
    folder anew, as at its start, when that is true.

    Writing: upsert, update, remove and refresh hold the folder for their time (turns.writing_turn) and wait for another
    writer for WAIT_S seconds.
    """

    def __init__(self, opened: OpenedIndex) -> None:
        self.path, self._opened = opened.path, opened
        self.facets = FacetRows(opened)
        self.columns = IndexColumns(self.facets.table)  # what a filter may name
        self._places = Places(opened)

    @classmethod
    def create(
        cls,
        path: str | Path,
        encoder_fingerprint: str | None,
        dimension: int | None,
        encoder_path: str | None = None,
        encoded_fields: Sequence[str] = RENDERED_FIELDS,
        language: str = "en",
    ) -> Store:
        """A new, empty index. dimension: D of its vectors, None for full text only.

        encoder_path: how the manifest says where the encoder lies, see manifest.remembered_place. encoded_fields: what
        the encoder reads of an item; the full text always reads everything. language: of texts and queries.
        Raises ValueError when there is an index already, when only one of fingerprint and dimension is given, or for a
        field that items do not have.
        """
        path = located(path)
        if (encoder_fingerprint is None) != (dimension is None):
            raise ValueError("an index has both an encoder fingerprint and a dimension, or neither")
        check_fields(encoded_fields)
        manifest = Manifest(
            fingerprint=encoder_fingerprint, dimension=dimension, encoder=encoder_path,
            encoded_fields=list(encoded_fields), language=check_language(language),
        )  # fmt: skip
        with writing_turn(path):
            if is_index(path):
                raise ValueError(f"{path} already holds an index; open it, or choose another folder")
            for unfinished in path.glob(f".{MANIFEST}.*"):
                unfinished.unlink(missing_ok=True)
            table = create_table(path, dimension)
            full_text.build(table, path, language)
            # Written last: a folder without it is no index, so a creation that was cut off is simply repeated.
            manifest.write(path)
        return cls(OpenedIndex(path))

    @classmethod
    def open(cls, path: str | Path, version: int | None = None) -> Store:
        """The index in a folder. version: an older state of it, for reading only.

        Raises FileNotFoundError when there is no index, ValueError for another format, a version that is not kept, or
        a file that is missing, cut or not what goodrate writes.
        """
        return cls(OpenedIndex(located(path), version))

    def __len__(self) -> int:
        return self._opened.read(lambda table: table.count_rows())

    @property
    def manifest(self) -> Manifest:
        """What made the index."""
        return self._opened.manifest

    @property
    def version(self) -> int:
        """Grows with every change; Store.open(path, version) reads an old one while it is kept (seven days)."""
        return self._opened.read(lambda table: table.version)

    @property
    def fingerprint(self) -> str | None:
        """Of the encoder whose vectors these are."""
        return self.manifest.fingerprint

    @property
    def dimension(self) -> int | None:
        """D, None when the index has no vectors."""
        return self.manifest.dimension

    @property
    def encoded_fields(self) -> list[str]:
        """What the encoder reads of an item; an index from before this could be chosen reads everything."""
        return self.manifest.encoded_fields

    def require_encoder(self, fingerprint: str | None) -> None:
        """ValueError unless this is the encoder that made the vectors: others live in another space."""
        if fingerprint == self.fingerprint:
            return
        own = f"encoder {_short(self.fingerprint)} ({self.manifest.encoder})" if self.fingerprint else "no encoder"
        other = f"encoder {_short(fingerprint)}" if fingerprint else "no encoder"
        raise ValueError(f"{self.path} was made with {own}, not with {other}; use the same or index into a new folder")

    def changed(self) -> bool:
        """Whether the folder holds another index than the open one; False while it holds none. Costs one stat call."""
        return self._opened.changed()

    def reload(self) -> None:
        """Go on with the index that is in the folder now; every read does so by itself when that is another one.

        Raises FileNotFoundError when there is none, IndexReplaced when its vectors are of another encoder, and
        ValueError when it was opened at a version.
        """
        self._opened.reload()

    def upsert(
        self, catalog: Catalog, vectors: np.ndarray | None, refresh: bool = True, hashes: Sequence[str] | None = None,
        layered: bool = False,
    ) -> None:  # fmt: skip
        """Add items and replace those whose id is there; doing it again changes nothing.

        vectors: (N, D) float32 in catalogue order, None when the index has none. refresh: bring the full-text index up
        to date at once; callers that write in parts do that at the end. hashes: text_hashes of the items, where they
        are known. layered: the catalogue has all that is filled in; without it, what others filled in before stays
        (filled_in.layered). Raises ValueError for a wrong shape or NaN.
        """
        vectors = self._checked(vectors, len(catalog))
        with self._opened.writing():
            catalog = catalog if layered else with_layer(self, catalog)
            self._merge(catalog, vectors, refresh, hashes, self.manifest.inferred_from, insert=True)

    def update(
        self, catalog: Catalog, refresh: bool = True, hashes: Sequence[str] | None = None, layered: bool = False,
        inferred_from: float | None = None,
    ) -> None:  # fmt: skip
        """Replace items that are there and leave their vectors as they are; ids that are not there are left out."""
        with self._opened.writing():
            least = self.manifest.inferred_from if inferred_from is None else inferred_from
            catalog = catalog if layered else with_layer(self, catalog)
            self._merge(catalog, None, refresh, hashes, least, insert=False)

    def _merge(
        self, catalog: Catalog, vectors: np.ndarray | None, refresh: bool, hashes: Sequence[str] | None,
        inferred_from: float, insert: bool,
    ) -> None:  # fmt: skip
        """Write items in parts. The engine keeps what a row has in columns that are not given."""
        frame = with_row_columns(catalog.frame, self.encoded_fields, inferred_from, hashes)
        with self._opened.writing() as table:
            full_text.mend_ids(table)
            for start in range(0, len(frame), WRITE_ROWS):
                part = slice(start, start + WRITE_ROWS)
                merge = table.merge_insert("id").when_matched_update_all()
                merge = merge.when_not_matched_insert_all() if insert else merge
                done = merge.execute(rows(frame[part], None if vectors is None else vectors[part]))
                full_text.add_outdated(self.path, done.num_updated_rows)
            if refresh:
                self.refresh()

    def _checked(self, vectors: np.ndarray | None, count: int) -> np.ndarray | None:
        """The vectors as float32 (N, D), or None for an index without vectors."""
        shape = None if vectors is None else tuple(vectors.shape)
        expected = None if self.dimension is None else (count, self.dimension)
        if shape != expected:
            raise ValueError(f"vectors have shape {shape}; this index expects {expected}")
        if vectors is not None and not np.isfinite(vectors).all():
            raise ValueError("vectors contain NaN or infinity")
        return None if vectors is None else np.ascontiguousarray(vectors, dtype=np.float32)

    def remove(self, ids: Sequence[str]) -> int:
        """Delete items by id; returns how many were there."""
        removed, distinct = 0, list(dict.fromkeys(ids))
        with self._opened.writing() as table:
            full_text.mend_ids(table)
            for start in range(0, len(distinct), ID_ROWS):
                removed += table.delete(id_condition(distinct[start : start + ID_ROWS])).num_deleted_rows
            full_text.add_outdated(self.path, removed)
            self.refresh()
        return removed

    def refresh(self) -> None:
        """Bring full text and vectors up to date, as full_text and vector_index say, and compact the files."""
        with self._opened.writing() as table:
            full_text.update(table, self.path, self.manifest.language)
            if self.dimension is not None:
                vector_index.update(table, self.path)

    def mend(self) -> int:
        """Keep one row, the last written, of every id that has several; returns how many rows went.

        Only programs that write into the folder without taking turns can leave several.
        """
        with self._opened.writing() as table:
            ids = table.search().with_row_id(True).select(["id"]).limit(max(table.count_rows(), 1)).to_arrow()
            places = pl.DataFrame(ids).sort("_rowid").with_columns(last=pl.col("_rowid").last().over("id"))
            doubled = places.filter(pl.col("_rowid") != pl.col("last"))["_rowid"].to_list()
            for start in range(0, len(doubled), ID_ROWS):
                table.delete(f"_rowid IN ({', '.join(map(str, doubled[start : start + ID_ROWS]))})")
            if doubled:
                full_text.add_outdated(self.path, len(doubled))
                self.refresh()
        return len(doubled)

    def items(self, ids: Sequence[str]) -> pl.DataFrame:
        """The items with these ids in the asked order, in ITEM_COLUMNS. Raises ValueError for an unknown id."""
        return Catalog(self.known_items(ids), plain=True).rows(ids)

    def known_items(self, ids: Sequence[str]) -> pl.DataFrame:
        """The items that are there of these ids, in no particular order, in ITEM_COLUMNS."""
        return self._of_ids(list(ITEM_COLUMNS), ids)

    def matching(self, ids: Sequence[str], where: str | None) -> set[str]:
        """Those of these ids that are there and that `where` lets through; no item has an attribute that none has."""
        condition, named = filter_sql(where, self.columns.forgiving), pl.Series(ids, dtype=pl.String)
        if named.is_empty():
            return set()
        # a filter alone is answered by its index; with ids beside it the engine reads the column of every item
        found = self._of_ids(["id"], ids) if condition is None else self.scan(["id"], condition)
        return set(named.filter(named.is_in(found["id"].implode())))

    def known_texts(self, ids: Sequence[str]) -> dict[str, str]:
        """id -> what the full text reads of those of these items that are there, attributes last."""
        return {row[0]: f"{row[1]} ; {row[2]}" for row in self._of_ids(["id", "text", "attribute_text"], ids).rows()}

    def all_items(self) -> Catalog:
        """Every item, ordered by id."""
        return Catalog(self._unique(self.scan(list(ITEM_COLUMNS))).sort("id"), plain=True)

    def images(self) -> pl.Series:
        """The pictures' addresses or paths of the items that have one, in no particular order."""
        return self.scan(["image"], "image != ''")["image"]

    def vectors(self) -> tuple[list[str], np.ndarray]:
        """All ids in order and their vectors (N, D) float32. Raises ValueError when the index has none."""
        if self.dimension is None:
            raise ValueError(f"{self.path} has no vectors: it was made without an encoder")
        found = self._unique(self.scan(["id", "vector"])).sort("id")
        return found["id"].to_list(), found["vector"].to_numpy().reshape(-1, self.dimension)

    def sample(self, count: int, draw: np.random.Generator) -> pl.DataFrame:
        """id, title and vector of at most `count` random items, ordered by id."""
        ids = np.sort(self.scan(["id"])["id"].to_numpy())
        chosen = draw.choice(ids, min(count, len(ids)), replace=False).tolist() if len(ids) else []
        columns = ["id", "title", "vector"]
        parts = [self.scan(columns, id_condition(chosen[at : at + ID_ROWS])) for at in range(0, len(chosen), ID_ROWS)]
        return pl.concat(parts).sort("id") if parts else pl.DataFrame(schema=dict.fromkeys(columns, pl.String))

    def stored_hashes(self) -> dict[str, str]:
        """id -> hash of the text that was encoded, for all items."""
        return dict(self._unique(self.scan(["id", "text_hash"])).rows())

    def _of_ids(self, columns: list[str], ids: Sequence[str]) -> pl.DataFrame:
        """Columns of the items with these ids."""
        distinct = list(dict.fromkeys(ids))
        placed = self._places.read(columns, distinct)
        if placed is not None:
            return placed
        parts = [distinct[start : start + ID_ROWS] for start in range(0, len(distinct), ID_ROWS)]
        found = [self.scan(columns, id_condition(part)) for part in parts]
        empty = pl.DataFrame(schema={name: ITEM_COLUMNS.get(name, pl.String) for name in columns})
        return self._unique(pl.concat([empty, *found]))

    def _unique(self, found: pl.DataFrame) -> pl.DataFrame:
        """The rows, of which no two have an id. ValueError with the way out when two do."""
        if found["id"].n_unique() < len(found):
            raise self._doubled(found.filter(pl.col("id").is_duplicated())["id"][0])
        return found

    def _doubled(self, item: str) -> ValueError:
        """The one message for an id that has several rows."""
        return IndexDamaged(
            f"{self.path} holds item {item!r} more than once: two programs wrote into it at a time; any "
            f"goodrate index --out {self.path} mends it"
        )

    def scan(self, columns: list[str], where: str | None = None) -> pl.DataFrame:
        """Columns of the matching rows, in no particular order."""

        def read(table: Any) -> pl.DataFrame:
            query = table.search().select(columns)
            query = query.where(where) if where else query
            return pl.DataFrame(query.limit(max(table.count_rows(), 1)).to_arrow()).select(columns)

        return self._opened.read(read)

    def search_text(
        self, query: str, k: int, where: str | None = None, attribute_weight: float = full_text.ATTRIBUTE_WEIGHT
    ) -> list[Hit]:
        """The k items with the highest lexical score among those that `where` lets through. Any characters are fine.

        score = BM25(title, brand, category, description, title) + attribute_weight * BM25(attributes). An item that
        shares no word with the query is no hit, so there may be fewer than k.
        """
        if not any(sign.isalnum() for sign in query):
            return []
        words = full_text.words(query, attribute_weight)
        return self._search(lambda table: table.search(words), "_score", lambda score: score, k, where)

    def search_identifiers(self, query: str, k: int, where: str | None = None) -> list[Hit]:
        """The items that have an identifier which the query holds (see identifiers), those with rarer ones first.

        None at all when more than COMMON items have one: "cat5e" is a word like others.
        """
        codes = full_text.identifiers(query)
        if codes is None:
            return []
        found = self._search(lambda table: table.search(codes), "_score", lambda score: score, COMMON + 1, where)
        return [] if len(found) > COMMON else found[:k]

    def search_vector(
        self, vector: np.ndarray, k: int, where: str | None = None, exact: bool = False
    ) -> list[Hit]:
        """The k items with the largest dot product among those that `where` lets through. vector: (D,).

        Exactly the best ones in an index of fewer than vector_index.APPROXIMATE_FROM items, or where `exact` is asked
        for; of a larger one a few may be missed, and the scores and the order of those found are exact.
        """
        vector = np.asarray(vector, dtype=np.float32)
        if self.dimension is None or vector.shape != (self.dimension,):
            raise ValueError(f"the query vector has shape {vector.shape}; this index expects ({self.dimension},)")
        return self._search(
            lambda table: vector_index.nearest(table, vector, exact), "_distance", lambda far: 1.0 - far, k, where,
        )  # fmt: skip

    def _search(
        self, start: Callable[[Any], Any], column: str, score: Callable[[float], float], k: int, where: str | None
    ) -> list[Hit]:
        """The best k of a search. Fetches more until no item outside can tie with the last one inside."""
        if k < 1:
            raise ValueError(f"k must be at least 1; got {k}")
        condition, limit = filter_sql(where, self.columns), k + TIE_MARGIN
        while True:
            found = self._fetch(start, column, condition, limit)
            scored = sorted(((-score(value), item) for item, value in found))
            if len(found) < limit or scored[-1][0] > scored[k - 1][0]:
                return [Hit(item, -negative, rank) for rank, (negative, item) in enumerate(scored[:k], start=1)]
            limit *= 4

    def _fetch(self, start: Callable[[Any], Any], column: str, condition: str | None, limit: int) -> list[tuple]:
        """(id, value) rows of one search, filtered before the top is taken."""

        def read(table: Any) -> Any:
            query = start(table)
            query = query if condition is None else query.where(condition, prefilter=True)
            return query.with_row_id(True).select(["id", column]).limit(limit).to_arrow()

        found = self._opened.read(read)
        ids = found["id"].to_pylist()
        if len(set(ids)) < len(ids):
            raise self._doubled(next(item for item in ids if ids.count(item) > 1))
        self._places.note(ids, found["_rowid"].to_pylist())
        return list(zip(ids, found[column].to_pylist(), strict=True))


def _short(fingerprint: str | None) -> str:
    """The first digits of a fingerprint, enough to tell two apart."""
    return (fingerprint or "none")[:12]
