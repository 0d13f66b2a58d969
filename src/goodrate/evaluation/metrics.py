"""Ranking metrics of a run against judgements, one row a query.

A query that a run lacks counts 0. A metric that cannot be told (nDCG of a query without a gain) is null, not 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import polars as pl

from goodrate.scale import RelevanceScale

Run = Mapping[str, Sequence[tuple[str, float]]]  # query_id -> (item_id, score), in any order
Qrels = Mapping[str, Mapping[str, int]]  # query_id -> item_id -> label position, 0 = worst

KINDS = ("ndcg", "mrr", "recall", "goodrate", "judged")
DEFAULT_METRICS = ("ndcg@10", "ndcg", "mrr@10", "recall@10", "goodrate@10", "judged@10")
RANKING = {"query_id": pl.String, "item_id": pl.String, "rank": pl.Int64, "label": pl.Int64}


@dataclass(frozen=True)
class Metric:
    """A kind of metric and how many results it sees; cutoff None = all of them."""

    kind: str
    cutoff: int | None

    @property
    def name(self) -> str:
        """As it is written: ndcg@10, ndcg."""
        return self.kind if self.cutoff is None else f"{self.kind}@{self.cutoff}"


def parse_metric(text: str) -> Metric:
    """A metric from its name. Raises ValueError with what is known.

    >>> parse_metric("nDCG@10"), parse_metric("mrr").cutoff
    (Metric(kind='ndcg', cutoff=10), None)
    """
    kind, at, cutoff = text.strip().lower().partition("@")
    if kind not in KINDS or (at and not (cutoff.isdigit() and int(cutoff) > 0)):
        raise ValueError(f"unknown metric {text!r}; known: {', '.join(KINDS)}, or with a cut-off such as ndcg@10")
    return Metric(kind, int(cutoff) if at else None)


def integer_gains(scale: RelevanceScale) -> list[int]:
    """The scale's gains by label position, multiplied until all are whole: nDCG does not change, trec_eval needs it.

    >>> from goodrate.scale import ESCI, WANDS
    >>> integer_gains(ESCI), integer_gains(WANDS)
    ([0, 1, 10, 100], [0, 1, 2])
    """
    exact = [Fraction(gain).limit_denominator(10_000) for gain in scale.gains]
    factor = lcm(*(gain.denominator for gain in exact))
    return [int(gain * factor) for gain in exact]


def rank_items(run: Run, qrels: Qrels, judged_only: bool = False) -> pl.DataFrame:
    """The run's items of judged queries: query_id, item_id, rank (from 1), label (null = unjudged), best first.

    Order: score descending, then item id ascending. judged_only: unjudged items are taken out before ranks are given.
    Raises ValueError for a score that is no number and for an item that a query lists twice.
    """
    rows = [(query, item, float(score)) for query in qrels for item, score in run.get(query, ())]
    frame = pl.DataFrame(rows, schema={"query_id": pl.String, "item_id": pl.String, "score": pl.Float64}, orient="row")
    _refuse(frame, pl.col("score").is_nan(), "has a score that is not a number")
    _refuse(frame, pl.struct("query_id", "item_id").is_duplicated(), "is listed twice")
    frame = frame.join(label_frame(qrels), on=["query_id", "item_id"], how="left")
    if judged_only:
        frame = frame.filter(pl.col("label").is_not_null())
    plain = pl.col("score") + 0.0  # -0.0 and 0.0 are a tie
    frame = frame.with_columns(plain).sort("query_id", "score", "item_id", descending=[False, True, False])
    return frame.with_columns(rank=pl.int_range(1, pl.len() + 1).over("query_id")).select(*RANKING)


def _refuse(frame: pl.DataFrame, bad: pl.Expr, what: str) -> None:
    """ValueError naming the first bad row of a run."""
    bad_rows = frame.filter(bad)
    if len(bad_rows):
        query, item = bad_rows.select("query_id", "item_id").row(0)
        raise ValueError(f"run: item {item!r} of query {query!r} {what}")


def label_frame(qrels: Qrels) -> pl.DataFrame:
    """The judgements as rows of query_id, item_id, label."""
    rows = [(query, item, label) for query, items in qrels.items() for item, label in items.items()]
    return pl.DataFrame(rows, schema={"query_id": pl.String, "item_id": pl.String, "label": pl.Int64}, orient="row")


def evaluate_run(
    run: Run,
    qrels: Qrels,
    scale: RelevanceScale,
    metrics: Iterable[str] = DEFAULT_METRICS,
    judged_only: bool = False,
) -> pl.DataFrame:
    """One row per judged query: query_id, results, missing, single_grade, and a column per metric (null = undefined).

    ndcg: linear in the scale's gains, discount log2(rank + 1), ideal over all judged items of the query; unjudged items
    give nothing. mrr, recall: of positive labels. goodrate@k: positive items among the judged ones of the first k (the
    unjudged ones say nothing; see judged@k). judged@k: judged share of the results shown.
    Undefined: ndcg without a gain, mrr and recall without a positive item, goodrate when no result shown is judged.
    missing: the run has no result for the query; all defined metrics are then 0. Queries of the run that are not judged
    are left out. Raises ValueError for an unknown metric and for a run with NaN scores or repeated items.
    >>> from goodrate.scale import ESCI
    >>> run = {"q": [("c1", 4.0), ("c2", 3.0), ("s1", 2.0), ("s2", 1.0)]}
    >>> table = evaluate_run(run, {"q": {"c1": 1, "c2": 1, "s1": 2, "s2": 2}}, ESCI, ["ndcg"])
    >>> round(table["ndcg"][0], 3)
    0.634
    """
    parsed = [parse_metric(name) for name in dict.fromkeys(metrics)]
    ranking = rank_items(run, qrels, judged_only)
    table = query_facts(ranking, qrels, scale)
    values = [
        _goodrates(ranking, metric, scale) if metric.kind == "goodrate" else _library(ranking, qrels, scale, metric)
        for metric in parsed
    ]
    for frame in values:
        table = table.join(frame, on="query_id", how="left", maintain_order="left")
    settled = table.with_columns(_settled(metric) for metric in parsed)
    return settled.drop("has_gain", "has_positive")


def query_facts(ranking: pl.DataFrame, qrels: Qrels, scale: RelevanceScale) -> pl.DataFrame:
    """Per judged query, in the order of qrels: results, missing, single_grade, has_gain, has_positive."""
    lookup = label_frame(qrels).with_columns(
        gain=pl.col("label").replace_strict(dict(enumerate(scale.gains)), return_dtype=pl.Float64),
        positive=pl.col("label").replace_strict(dict(enumerate(scale.is_positive.tolist())), return_dtype=pl.Boolean),
    )
    label_facts = lookup.group_by("query_id").agg(
        single_grade=pl.col("label").n_unique() == 1,
        has_gain=(pl.col("gain") > 0).any(),
        has_positive=pl.col("positive").any(),
    )
    counts = ranking.group_by("query_id").agg(results=pl.len())
    table = pl.DataFrame({"query_id": list(qrels)}, schema={"query_id": pl.String})
    table = table.join(counts, on="query_id", how="left", maintain_order="left")
    table = table.join(label_facts, on="query_id", how="left", maintain_order="left")
    table = table.with_columns(pl.col("results").fill_null(0))
    return table.with_columns(missing=pl.col("results") == 0)


def _settled(metric: Metric) -> pl.Expr:
    """Undefined where the judgements cannot tell, 0 where the run has nothing to show."""
    needs = {"ndcg": pl.col("has_gain"), "mrr": pl.col("has_positive"), "recall": pl.col("has_positive")}
    value = pl.when(pl.col("missing")).then(0.0).otherwise(pl.col(metric.name))
    return pl.when(needs.get(metric.kind, pl.lit(True))).then(value).alias(metric.name)


def _goodrates(ranking: pl.DataFrame, metric: Metric, scale: RelevanceScale) -> pl.DataFrame:
    """query_id and the positive share of the judged items among the first k; no row where none of them is judged."""
    shown = ranking.filter(pl.col("label").is_not_null())
    if metric.cutoff is not None:
        shown = shown.filter(pl.col("rank") <= metric.cutoff)
    good = [label for label, positive in enumerate(scale.is_positive) if positive]
    return shown.group_by("query_id").agg(pl.col("label").is_in(good).mean().alias(metric.name))


def _library(ranking: pl.DataFrame, qrels: Qrels, scale: RelevanceScale, metric: Metric) -> pl.DataFrame:
    """query_id and the value that ir_measures gives; queries without results have no row."""
    import ir_measures

    if ranking.is_empty():
        return pl.DataFrame(schema={"query_id": pl.String, metric.name: pl.Float64})
    # Ranks, not scores: the library breaks ties by id descending and in float32.
    ranks: dict[str, dict[str, int]] = {}
    for query, item, rank in ranking.select("query_id", "item_id", "rank").iter_rows():
        ranks.setdefault(query, {})[item] = -rank
    gains = integer_gains(scale) if metric.kind == "ndcg" else scale.is_positive.astype(int).tolist()
    graded = {query: {item: gains[label] for item, label in qrels[query].items()} for query in ranks}
    values = ir_measures.iter_calc([_measure(metric)], graded, ranks)
    rows = [(value.query_id, float(value.value)) for value in values]
    return pl.DataFrame(rows, schema={"query_id": pl.String, metric.name: pl.Float64}, orient="row")


def _measure(metric: Metric) -> Any:
    """The measure of the library. It counts a binary item when its value is at least 1."""
    import ir_measures

    kinds = {
        "ndcg": ir_measures.nDCG,
        "mrr": ir_measures.RR,
        "recall": ir_measures.R,
        "judged": ir_measures.Judged,
    }
    measure = kinds[metric.kind]
    if metric.cutoff is None and metric.kind in ("recall", "judged"):
        return measure @ 1_000_000_000  # these two have no form without a cut-off
    return measure if metric.cutoff is None else measure @ metric.cutoff
