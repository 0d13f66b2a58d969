"""Another engine's results as a system to compare: a run in TREC's format, joined with the judged queries."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from goodrate.catalog.normal_form import normal_form
from goodrate.catalog.problems import BadRow, tolerate
from goodrate.catalog.tables import ROW, unpacked_name
from goodrate.catalog.trec import field_table, file_text, numbered_lines, separator_of
from goodrate.evaluation.systems import SystemRuns, Task

FIELDS = ("query", "q0", "item_id", "rank", "score", "tag")
IN_WORDS = "query id, Q0, item id, rank, score, tag"


@dataclass(frozen=True)
class RunFile:
    """What an engine returned. frame: query (id or text), item_id, place (1 = first); name: the file's, without ending.

    contradicting: queries whose ranks and scores give different orders; the scores count.
    """

    name: str
    path: Path
    frame: pl.DataFrame
    contradicting: int = 0


def read_run(path: str | Path) -> RunFile:
    """A run: six fields a line, by tabs (a query may then be a text) or blanks, with or without a header; .gz, .zst.

    Order: score descending, as trec_eval has it, then rank, then item id. Raises FileNotFoundError, or ValueError
    naming file, row and column: another number of fields, a rank or score that is no number, an item that is twice in
    one query.
    """
    path = Path(path)
    lines = numbered_lines(file_text(path))
    separator = separator_of(lines["line"][0], len(FIELDS))
    frame, problems = field_table(lines, FIELDS, separator, IN_WORDS)
    if len(frame) and frame[ROW][0] == lines[ROW][0] and frame["rank"][0].lower() in ("rank", "position"):
        frame = frame[1:]
    numbers = frame.with_columns(pl.col("rank", "score").cast(pl.Float64, strict=False))
    for name in ("rank", "score"):
        wrong = numbers[name].is_null() | ~numbers[name].is_finite()
        problems += [BadRow(row, name, f"a number, found {text!r}") for row, text in _rows(frame, wrong, name)]
    first = pl.col(ROW).min().over("query", "item_id").alias("first")
    again = frame.with_columns(first).filter(pl.col(ROW) > pl.col("first")).select(ROW, "first").rows()
    problems += [BadRow(row, "item_id", f"an item once a query; it is in row {seen} too") for row, seen in again]
    tolerate(path, problems, 0)
    if frame.is_empty():
        raise ValueError(f"{path} has no result in it; expected lines of {IN_WORDS}")
    return _ordered(path, numbers)


def _rows(frame: pl.DataFrame, wrong: pl.Series, name: str) -> list[tuple[int, str]]:
    return frame.filter(wrong.fill_null(True)).select(ROW, name).rows()


def _ordered(path: Path, numbers: pl.DataFrame) -> RunFile:
    """The run with places from 1, and how many queries have ranks that say something else."""
    by_score = numbers.sort("query", "score", "rank", "item_id", descending=[False, True, False, False])
    placed = by_score.with_columns(place=pl.int_range(1, pl.len() + 1).over("query"))
    other = placed.filter((pl.col("rank").diff() < 0).over("query"))["query"].n_unique()
    return RunFile(unpacked_name(path).stem, path, placed.select("query", "item_id", "place"), other)


def run_system(run: RunFile, task: Task, judged: Mapping[str, str], known_items: Collection[str]) -> SystemRuns:
    """The run on the judged queries, joined by id or, where that gives more, by text in its normal form.

    judged: query id -> text of all judged queries, those of the task among them. In judged lists, judged items that the
    run lacks come last, by id. Notes say what did not join. Raises ValueError when no query does.
    """
    queries = pl.DataFrame(list(judged.items()), schema=["query_id", "text"], orient="row")
    by_id = run.frame.join(queries, left_on="query", right_on="query_id", how="inner", coalesce=False)
    texts = queries.with_columns(key=normal_form(queries["text"])).select("query_id", "key")
    own = run.frame.with_columns(key=normal_form(run.frame["query"]))
    by_text = own.join(texts, on="key", how="inner")
    joined = by_id if by_id["query_id"].n_unique() >= by_text["query_id"].n_unique() else by_text
    if joined.is_empty():
        theirs = run.frame["query"].unique(maintain_order=True)
        raise ValueError(
            f"{run.path}: none of its {len(theirs):,} queries is judged, by id or text: the run names "
            f"{theirs.head(3).to_list()}, the judgements (id, text) {queries.head(3).rows()}"
        )
    results = joined.select("query_id", "item_id", score=-pl.col("place").cast(pl.Float64))
    rows = results.filter(pl.col("query_id").is_in(list(task.queries)))
    grouped = rows.group_by("query_id", maintain_order=True).agg("item_id", "score")
    ranked = {query_id: list(zip(items, scores, strict=True)) for query_id, items, scores in grouped.iter_rows()}
    added = _complete(ranked, task) if task.judged_only else 0
    return SystemRuns(run.name, [ranked], tuple(_notes(run, joined, rows, known_items, added)))


def _complete(ranked: dict[str, list[tuple[str, float]]], task: Task) -> int:
    """Put the judged items that the run lacks behind its own; how many there were."""
    added = 0
    for query_id in ranked:
        have = {item for item, _ in ranked[query_id]}
        lacking = [item for item in task.judged_items(query_id) if item not in have]
        last = -float(len(have) + 1)
        ranked[query_id] += [(item, last) for item in lacking]
        added += len(lacking)
    return added


def _notes(
    run: RunFile, joined: pl.DataFrame, rows: pl.DataFrame, known_items: Collection[str], added: int
) -> list[str]:
    """What did not join, what is unknown, and what was decided."""
    unjudged = run.frame["query"].n_unique() - joined["query"].n_unique()
    unknown = rows.filter(~pl.col("item_id").is_in(list(known_items)))
    notes = [f"{unjudged:,} of its queries are not judged"] if unjudged else []
    if len(unknown):
        notes.append(
            f"{unknown['item_id'].n_unique():,} of its items are not in the index ({len(unknown):,} of {len(rows):,} "
            "results); they keep their places, unjudged"
        )
    if run.contradicting:
        notes.append(f"in {run.contradicting:,} queries ranks and scores give different orders; the scores count")
    return notes + ([f"{added:,} judged items are not in its results; they come last"] if added else [])
