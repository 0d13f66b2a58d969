"""Read a shop's own data: catalogues and judgements, from files or frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.scale import LabelsBy, Merge, RelevanceScale, get_scale

if TYPE_CHECKING:
    from goodrate.api.events import ImpressionLog
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.evaluation.policy_log import PolicyLog
    from goodrate.relevance.pair_file import PairFile

Scale = str | Mapping[str, Any] | RelevanceScale
CATALOG_FORMATS = "esci, wands, chorus, merchant or shopify"  # catalog.formats.ITEM_FORMATS, in words


def read_catalog(
    source: Any, format: str | None = None, map: Mapping[str, str] | None = None, skip_bad: int = 0,
    decimal: str | None = None, currency: str | None = None, images: str | Path | None = None,
) -> Catalog:  # fmt: skip
    """The items of a file (csv, tsv, json, jsonl, parquet, xlsx, xml; also .gz or .zst), or a polars or pandas frame.

    format: esci, wands, chorus, merchant, shopify, or None. map: our column -> theirs, such as {"id": "sku",
    "title": "name"}; columns that are not ours become attributes. skip_bad: bad rows to leave out (Catalog.skipped
    lists them). decimal: point or comma, where the column of prices does not say which; currency: of prices that have
    none written, such as EUR. images: the folder of the items' pictures, which are checked: paths of the column image,
    or files that are called like ids (docs/images.md). Catalog.notes tells how it was read. Raises FileNotFoundError,
    or ValueError with file, row, column and what was expected.
    """
    from goodrate.catalog import readers
    from goodrate.catalog.prices import PriceOptions

    read = readers.read_catalog if isinstance(source, (str, Path)) else readers.frame_catalog
    prices, folder = PriceOptions(decimal, currency), None if images is None else Path(images)
    return read(source, format, dict(map) if map else None, skip_bad, prices, folder)


def read_judgements(
    source: Any, scale: Scale | None = None, format: str | None = None, map: Mapping[str, str] | None = None,
    skip_bad: int = 0, queries: str | Path | None = None, raters: Sequence[str] = (), merge: Merge | None = None,
    labels_by: LabelsBy = "people",
) -> Judgements:  # fmt: skip
    """The judgements of a file or frame: columns query, item_id, label and, when queries have ids, query_id.

    scale: four_level, esci, esci_swapped, wands, graded_0_3, binary, or your own TOML file; None = the one that all
    labels are on. format: trec, ltr, quepid, quepid_json, rre, srw, rank_eval, esci, wands, chorus; None = told by the
    content. map: our column -> theirs. queries: the file with the texts of query ids, or "ids" where the ids are the
    texts. raters: columns of one rater's labels each, such as ["agent_*_rating"]. merge: median, majority, mean or min
    of several labels of a pair. labels_by: people, or model for labels that a model made (rater "model:..."), or
    any for a model's where people labelled nothing. `.notes` says what was read how; `.join(catalog)` leaves out, and
    counts, what the catalogue lacks. Raises FileNotFoundError, or ValueError with file, row and column.
    """
    from goodrate.catalog import judgements

    read = judgements.read_judgements if isinstance(source, (str, Path)) else judgements.frame_judgements
    known = None if scale is None else scale_of(scale)
    texts = None if queries is None else str(queries)
    return read(source, known, format, dict(map) if map else None, skip_bad, texts, raters, merge, labels_by)


def scale_of(scale: Scale) -> RelevanceScale:
    """A scale, by its name, from its TOML file or as it is. Raises as goodrate.scale.get_scale."""
    return get_scale(scale)


def bad_row_lines(path: str | Path, read: Catalog | Judgements | PairFile | PolicyLog | ImpressionLog) -> list[str]:
    """The rows that were left out while reading a file, one line each, at most twenty."""
    from goodrate.catalog.problems import describe

    return describe(Path(path), read.skipped)
