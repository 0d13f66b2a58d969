"""The texts of query ids: for judgements and runs that have ids alone."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from goodrate.catalog.problems import BadRow, require_columns, tolerate
from goodrate.catalog.readers import as_text
from goodrate.catalog.tables import READERS, ROW, read_table
from goodrate.catalog.trec import SIGNS, ending, field_table, fields_of, file_text, numbered_lines, topics

IDS = "ids"  # in place of a file: the ids are the texts
ID_NAMES = ("query_id", "qid", "query-id", "_id", "id", "topic_id", "topic")
TEXT_NAMES = ("query", "text", "title", "query_text")


def with_texts(frame: pl.DataFrame, queries: str | None, source: Path) -> tuple[pl.DataFrame, list[BadRow], str]:
    """The frame with the column query beside its query_id, ids without a text, and what is to be said.

    queries: a file, or "ids". Without it ids that hold a blank are texts. Raises ValueError when nothing says what was
    searched: an id such as 301 is nothing to search for.
    """
    if queries is not None and queries != IDS:
        texts = read_query_texts(Path(queries))
        joined = frame.join(texts, on="query_id", how="left", maintain_order="left")
        lost = joined.filter(pl.col("query").is_null() & pl.col("query_id").is_not_null()).select(ROW, "query_id")
        expected = "query_id {!r} to have a text in " + str(queries) + ", found none"
        return joined, [BadRow(row, "query", expected.format(query_id)) for row, query_id in lost.rows()], ""
    ids = frame["query_id"].drop_nulls()
    if queries is None and not bool(ids.str.contains(r"\s").any()):
        shown = ", ".join(repr(query_id) for query_id in ids.unique(maintain_order=True).head(3))
        raise ValueError(
            f"{source} has query ids ({shown}) and no query texts: name the file that has them with --queries FILE "
            "(columns query_id and query, or TREC topics), or say --queries ids where the ids are the texts "
            "(in training data.judgements_queries)"
        )
    return frame.with_columns(query=pl.col("query_id")), [], f"{source}: the query ids are taken as the query texts"


def read_query_texts(path: Path) -> pl.DataFrame:
    """query_id and query, of a table with a header (csv, tsv, jsonl, parquet), lines "id TAB text", or TREC topics.

    Raises FileNotFoundError, or ValueError naming file and row.
    """
    text = file_text(path) if ending(path) not in (".parquet", ".jsonl", ".ndjson") else ""
    problems: list[BadRow] = []
    if text.lstrip()[:4].lower() == "<top":
        frame = pl.DataFrame(topics(text), schema=["query_id", "query"], orient="row")
    elif not text or (ending(path) in READERS and _has_header(text)):
        frame, problems = _from_table(path)
    else:
        frame, problems = _from_lines(text)
    tolerate(path, problems, 0)
    frame = frame.unique(["query_id", "query"], maintain_order=True)
    doubled = frame.filter(pl.col("query_id").is_duplicated())
    if frame.is_empty() or len(doubled):
        what = f"two texts for query_id {doubled['query_id'][0]!r}" if len(doubled) else "no query"
        raise ValueError(f"{path} has {what}; expected one text for each query_id")
    return frame


def _has_header(text: str) -> bool:
    """Whether the first line names the columns."""
    first = text.lstrip("\n").split("\n", 1)[0]
    splits = [{name.strip('"').lower() for name in fields_of(first, sign)} for sign in SIGNS if sign]
    return any(names & set(ID_NAMES) and names & set(TEXT_NAMES) for names in splits)


def _from_table(path: Path) -> tuple[pl.DataFrame, list[BadRow]]:
    table = read_table(path, {*ID_NAMES, *TEXT_NAMES})
    pairs = (("query_id", ID_NAMES), ("query", TEXT_NAMES))
    column_of = {ours: next((name for name in names if name in table.columns), ours) for ours, names in pairs}
    require_columns(path, column_of, list(column_of), table.columns, "")
    frame = table.frame.select(ROW, *(as_text(table.frame, theirs).alias(ours) for ours, theirs in column_of.items()))
    empty = frame.filter(pl.any_horizontal(pl.col("query_id", "query").fill_null("") == ""))[ROW]
    problems = [BadRow(row, "query", "query_id and query to be filled, found nothing") for row in empty]
    return frame.drop(ROW), [*table.problems, *table.text_problems(column_of), *problems]


def _from_lines(text: str) -> tuple[pl.DataFrame, list[BadRow]]:
    """Lines of an id and a text, separated by a tab, or by the first colon or blank."""
    lines = numbered_lines(text)
    if "\t" not in lines["line"][0]:
        parted = pl.col("line").str.strip_chars().str.replace(r"^([^\s:]+)(\s*:\s*|\s+)", "${1}\t")
        lines = lines.with_columns(parted)
    frame, problems = field_table(lines, ("query_id", "query"), "\t", "query id, query text")
    return frame.drop(ROW), problems
