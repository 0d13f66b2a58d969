"""User behaviour insights (UBI, the schema of OpenSearch and others): its queries and events as impressions.

One row a query id and item: shown by an impression event, or by the hits of the query where it has none; clicked where
an event of a click follows. Schema: o19s/ubi, versions 1.0 to 1.3.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from goodrate.catalog.event_times import EXPECTED, TIME, event_times
from goodrate.catalog.problems import BadRow, tolerate
from goodrate.catalog.readers import as_text
from goodrate.catalog.tables import ROW, read_table

HITS = ("query_response_hit_ids", "query_response_objects_ids", "query_response_object_ids")
SEEN = ("impression",)
CLICKED = ("click", "item_click", "product_click", "result_click")
FIELDS = ("action_name", "query_id", "user_query", "timestamp", "event_attributes", *HITS)
SIGNS = ({"action_name", "query_id"}, {"query_id", "user_query"})  # of a file of events, of one of queries
FILE = "__file__"
LISTED = 5


@dataclass(frozen=True)
class UbiImpressions:
    """frame: query, item_id, position (from 1; null where nothing says it), clicked, time (UTC), in order of time.
    skipped: bad rows left out. notes: what a person should know of how the files were read, a line each."""

    frame: pl.DataFrame
    skipped: tuple[BadRow, ...]
    notes: tuple[str, ...]


def is_ubi(columns: Collection[str]) -> bool:
    """Whether a file with these columns holds UBI queries or events."""
    return any(signs <= {*columns} for signs in SIGNS)


def read_ubi(
    files: Sequence[str | Path], clicks: Sequence[str] = CLICKED, impressions: Sequence[str] = SEEN, skip_bad: int = 0
) -> UbiImpressions:
    """Impressions of UBI files (jsonl, ndjson or others that read_table reads), in any order: queries, events or both
    in one file. clicks, impressions: the names of actions that are one.

    Raises ValueError with file, row, column and what was expected, and where no event belongs to a query with a text.
    """
    parts: list[pl.DataFrame] = []
    skipped: list[BadRow] = []
    for path in files:
        frame, left_out = _rows(Path(path), skip_bad)
        parts.append(frame)
        skipped += left_out
    rows = pl.concat(parts, how="diagonal_relaxed")
    queries, events = _queries(rows), _events(rows)
    shown, notes = _shown(queries, events.filter(pl.col("action_name").is_in(list(impressions))))
    wanted = events.filter(pl.col("action_name").is_in(list(clicks)))
    frame, lost = _with_clicks(shown, wanted, queries)
    if frame.is_empty():
        raise ValueError(f"{files[0]}: no impression: expected events of action_name {', '.join(impressions)}, or "
                         f"queries with {HITS[0]}, that share a query_id with a query that has user_query")  # fmt: skip
    others = events.filter(~pl.col("action_name").is_in([*clicks, *impressions]))["action_name"].value_counts(sort=True)
    if len(others):
        named = ", ".join(f"{name} {count:,}" for name, count in others.head(LISTED).iter_rows())
        notes.append(f"events of other actions are left out: {named}")
    return UbiImpressions(frame, tuple(skipped), (*notes, *lost))


def _rows(path: Path, skip_bad: int) -> tuple[pl.DataFrame, tuple[BadRow, ...]]:
    """The queries and events of a file as texts. Rows of neither kind (action lines of bulk files) are none."""
    table = read_table(path, set(FIELDS))
    raw = table.frame
    present = [name for name in FIELDS if name in raw.columns]
    if not is_ubi(present):
        raise ValueError(f"{path}: no UBI file: expected the columns query_id and action_name, or query_id and "
                         f"user_query; columns: {', '.join(table.columns[:20])}")  # fmt: skip
    frame = raw.select(ROW, *(as_text(raw, name).alias(name) for name in present))
    frame = frame.with_columns(pl.lit(None, pl.String).alias(n) for n in FIELDS if n not in present)
    frame = frame.filter(pl.any_horizontal(pl.col(n).is_not_null() for n in ("query_id", "action_name", "user_query")))
    time = event_times(frame["timestamp"]).alias("time")
    item = pl.col("event_attributes").str.json_path_match("$.object.object_id").str.strip_chars()
    ordinal = pl.col("event_attributes").str.json_path_match("$.position.ordinal")
    frame = frame.with_columns(time, item.alias("item_id"), ordinal.cast(pl.Float64, strict=False).alias("ordinal"))
    bad_ordinal = ordinal.is_not_null() & ~(pl.col("ordinal") % 1 == 0).fill_null(False) | (pl.col("ordinal") < 0)
    problems = [
        *(BadRow(row, "timestamp", EXPECTED) for row in frame.filter(pl.col("time").is_null())[ROW]),
        *(BadRow(row, "query_id", "an id, found nothing") for row in
          frame.filter((pl.col("query_id").fill_null("") == "") & pl.col("action_name").is_null())[ROW]),
        *(BadRow(row, "event_attributes.position.ordinal", "a whole number from 0") for row in
          frame.filter(bad_ordinal.fill_null(False))[ROW]),
    ]  # fmt: skip
    skipped = tolerate(table.path, [*table.problems, *problems], skip_bad)
    return frame.filter(~pl.col(ROW).is_in([problem.row for problem in skipped])), skipped


def _queries(rows: pl.DataFrame) -> pl.DataFrame:
    """query_id, query, time, hits (list of item ids), one row a query id: of several the first that has a text."""
    texts = rows.filter(pl.col("user_query").fill_null("").str.strip_chars() != "")
    hits = pl.coalesce(pl.col(name) for name in HITS).str.json_decode(pl.List(pl.String))
    own_first = pl.col("action_name").is_not_null()  # an event that repeats the text of its query
    return (
        texts.sort(own_first, maintain_order=True)
        .select("query_id", pl.col("user_query").str.strip_chars().alias("query"), "time", hits.alias("hits"))
        .unique("query_id", keep="first", maintain_order=True)
    )


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    """query_id, action_name, item_id, ordinal, time, of events that belong to a query and an item."""
    whole = pl.col("action_name").is_not_null() & pl.col("query_id").is_not_null() & pl.col("item_id").is_not_null()
    return rows.filter(whole & (pl.col("item_id") != "")).select(
        "query_id", "action_name", "item_id", "ordinal", "time"
    )


def _shown(queries: pl.DataFrame, seen: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """query_id, item_id, position, time, one row a query id and item, and notes."""
    notes = []
    from_zero = bool((seen["ordinal"] == 0).any())
    if from_zero:
        notes.append("positions of impressions begin at 0; here they begin at 1")
    events = seen.sort("time", maintain_order=True).unique(["query_id", "item_id"], keep="first", maintain_order=True)
    first = events.select(
        "query_id", "item_id", (pl.col("ordinal") + int(from_zero)).cast(pl.Int64).alias("position"), "time"
    )
    hits = queries.filter(pl.col("hits").list.len() > 0).join(seen, on="query_id", how="anti")
    ranked = hits.with_columns(pl.int_ranges(1, pl.col("hits").list.len() + 1).alias("position"))
    ranked = ranked.explode("hits", "position").select("query_id", pl.col("hits").alias("item_id"), "position", "time")
    ranked = ranked.unique(["query_id", "item_id"], keep="first", maintain_order=True)
    if len(ranked):
        notes.append(f"queries without an impression event: {len(hits):,}; all of their hits count as seen")
    return pl.concat([first, ranked]), notes


def _with_clicks(
    shown: pl.DataFrame, clicks: pl.DataFrame, queries: pl.DataFrame
) -> tuple[pl.DataFrame, list[str]]:  # fmt: skip
    """The impressions with query text and clicks; what was clicked was seen, whatever the impressions say."""
    pair = ["query_id", "item_id"]
    notes = []
    clicked = clicks.sort("time", maintain_order=True).unique(pair, keep="first", maintain_order=True)
    unseen = clicked.join(shown, on=pair, how="anti")
    if len(unseen):
        notes.append(f"clicked items that nothing shows: {len(unseen):,}; they count as seen, without position")
        added = unseen.select(*pair, pl.lit(None, pl.Int64).alias("position"), "time")
        shown = pl.concat([shown, added])
    marked = shown.join(
        clicked.select(*pair, pl.lit(True).alias("clicked")), on=pair, how="left", maintain_order="left"
    )
    known = marked.join(queries.select("query_id", "query"), on="query_id", how="inner", maintain_order="left")
    if len(known) < len(marked):
        notes.append(f"impressions of queries without user_query: {len(marked) - len(known):,}; left out")
    frame = known.sort("time", "query_id", "position", maintain_order=True).select(
        "query",
        "item_id",
        pl.col("position").cast(pl.Int32),
        pl.col("clicked").fill_null(False),
        pl.col("time").cast(TIME),
    )
    return frame, notes
