"""Read a shop's own data: catalogues and judgements, from files or frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.scale import RelevanceScale, get_scale

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.pair_file import PairFile

Scale = str | RelevanceScale


def read_catalog(
    source: Any, format: str | None = None, map: Mapping[str, str] | None = None, skip_bad: int = 0,
    decimal: str | None = None, currency: str | None = None,
) -> Catalog:  # fmt: skip
    """The items of a csv, tsv, jsonl or parquet file, plain or .gz or .zst, or of a polars or pandas frame.

    format: esci, wands, chorus, or None. map: our column -> theirs, such as {"id": "sku", "title": "name"}; columns
    that are not ours become attributes. skip_bad: bad rows to leave out (Catalog.skipped lists them). decimal: point or
    comma, where the column of prices does not say which; currency: of prices that have none written, such as EUR.
    Catalog.notes tells how it was read. Raises FileNotFoundError, or ValueError with file, row, column and what was
    expected.
    """
    from goodrate.catalog import readers
    from goodrate.catalog.prices import PriceOptions

    read = readers.read_catalog if isinstance(source, (str, Path)) else readers.frame_catalog
    return read(source, format, dict(map) if map else None, skip_bad, PriceOptions(decimal, currency))


def read_judgements(
    source: Any, scale: Scale = "four_level", format: str | None = None, map: Mapping[str, str] | None = None,
    skip_bad: int = 0,
) -> Judgements:  # fmt: skip
    """The judgements of a file or frame: columns query, item_id, label and, when queries have ids, query_id.

    scale: four_level, esci, esci_swapped, wands or graded_0_3. map: our column -> theirs. `.join(catalog)` leaves out,
    and counts, what the catalogue lacks. Raises FileNotFoundError, or ValueError with file, row and column.
    """
    from goodrate.catalog import judgements

    read = judgements.read_judgements if isinstance(source, (str, Path)) else judgements.frame_judgements
    return read(source, scale_of(scale), format, dict(map) if map else None, skip_bad)


def scale_of(scale: Scale) -> RelevanceScale:
    """A scale, by its name or as it is. Raises ValueError with the known names."""
    return get_scale(scale) if isinstance(scale, str) else scale


def bad_row_lines(path: str | Path, read: Catalog | Judgements | PairFile) -> list[str]:
    """The rows that were left out while reading a file, one line each, at most twenty."""
    from goodrate.catalog.problems import describe

    return describe(Path(path), read.skipped)
