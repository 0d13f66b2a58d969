"""Metrics of every query and system as a table."""

from __future__ import annotations

import polars as pl

from goodrate.evaluation.report import Report
from goodrate.evaluation.systems import Task


def per_query(report: Report, task: Task, k: int) -> pl.DataFrame:
    """One row a system and query: query_id, query, system, results, judged_results, judged_items, and the metrics.

    judged_results: how many of the first k results are judged (a mean for random orders); judged_items: how many items
    of the query are judged. A metric that is undefined there is null.
    """
    queries = pl.DataFrame(
        [(query_id, text, len(task.qrels[query_id])) for query_id, text in task.queries.items()],
        schema={"query_id": pl.String, "query": pl.String, "judged_items": pl.Int64}, orient="row",
    )  # fmt: skip
    shown = pl.min_horizontal(pl.col("results"), pl.lit(k))
    count = (pl.col(f"judged@{k}").fill_null(0.0) * shown).round(6).alias("judged_results")
    tables = [
        system.values.with_columns(pl.lit(system.name).alias("system"), pl.col("results").cast(pl.Float64))
        .with_columns(count)
        .select("query_id", "system", "results", "judged_results", *report.metrics)
        for system in report.systems
    ]
    together = queries.join(pl.concat(tables), on="query_id", how="left", maintain_order="left")
    return together.select(
        "query_id", "query", "system", "results", "judged_results", "judged_items", *report.metrics
    )  # fmt: skip
