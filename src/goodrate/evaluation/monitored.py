"""One look at a search: what its pages showed for a set of queries, and the numbers that are followed over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from goodrate.evaluation.agreement import kappa_of
from goodrate.evaluation.goodrates import GOOD_PAGE, MID_PAGE, goodrates, page_counts, page_is_good, page_of
from goodrate.evaluation.significance import bootstrap_interval
from goodrate.scale import RelevanceScale

K = 10
JUDGE, PEOPLE = "judge", "people"
TIERS = ("Good", "Mid", "Bad", "none")
RATES = ("query_goodrate", "item_goodrate", "confidence", "judged_share")  # that can be too low, or fall
RESULTS = {
    "query": pl.String, "rank": pl.Int64, "item_id": pl.String, "title": pl.String, "label": pl.String,
    "label_by": pl.String, "judge_label": pl.String, "tier": pl.String, "confidence": pl.Float64, "status": pl.String,
}  # fmt: skip
QUERIES = {
    "query": pl.String, "results": pl.Int64, "judged": pl.Int64, "item_goodrate": pl.Float64, "page": pl.String,
    "confidence": pl.Float64,
}  # fmt: skip


@dataclass(frozen=True)
class Cuts:
    """From which share of good results on a page is Good, and Mid. k: results of a page."""

    good: float = GOOD_PAGE
    mid: float = MID_PAGE
    k: int = K

    def __post_init__(self) -> None:
        if not 0 < self.mid <= self.good <= 1 or self.k < 1:
            raise ValueError(
                f"a page is Mid from {self.mid} and Good from {self.good} on: expected 0 < Mid <= Good <= 1"
            )


@dataclass(frozen=True)
class Look:
    """What one run has found. results: RESULTS, one row a result; queries: QUERIES, one row a query that was asked.

    label_by of a result is "people" where a person's label stands in place of the judge's, null for no label. tier and
    confidence (the probability of the likeliest label) are the judge's; status "ok", its failure, or "not_judged".
    numbers: what is followed over time (see `look`). facts: what the run was made of, when, and its number.
    """

    results: pl.DataFrame
    queries: pl.DataFrame
    numbers: dict[str, Any]
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """As it is called in words."""
        return f"run {self.facts['number']}"

    def rate(self, name: str) -> float:
        """One of RATES; NaN for unknown."""
        value = self.numbers["rates"][name]["value"]
        return float("nan") if value is None else float(value)


def look(
    results: pl.DataFrame, queries: Sequence[str], scale: RelevanceScale, facts: Mapping[str, Any],
    cuts: Cuts | None = None, seed: int = 0,
) -> Look:  # fmt: skip
    """The numbers of the pages of queries (all that were asked, in order; one may have no result).

    rates: query_goodrate, the share of pages that are Good or Mid; item_goodrate, the mean share of good results among
    the judged ones of a page; confidence, the mean over queries of the judge's on a page; judged_share, of results that
    have a label: each with a 95% interval over queries. tiers: shares of results in the judge's tiers, "none" without.
    """
    cuts = cuts or Cuts()
    table = _by_query(results, queries, scale, cuts)
    good = page_is_good(table["page"])
    shares = (table["judged"] / table["results"]).fill_nan(None)
    values = {
        "query_goodrate": good, "item_goodrate": _array(table["item_goodrate"]),
        "confidence": _array(table["confidence"]), "judged_share": _array(shares),
    }  # fmt: skip
    counts = {
        "queries": len(table), "empty": int((table["results"] == 0).sum()), "results": len(results),
        "judged": int(results["label"].is_not_null().sum()), "by_people": int((results["label_by"] == PEOPLE).sum()),
        "failed": int((~results["status"].is_in(["ok", "not_judged"])).sum()),
    }  # fmt: skip
    numbers = {
        "rates": {name: bootstrap_interval(values[name], seed).as_dict() for name in RATES},
        "pages": page_counts(table["page"]), "tiers": _tier_shares(results), "counts": counts,
        "people": _people_and_judge(results, scale),
    }  # fmt: skip
    return Look(results, table, numbers, dict(facts))


def _array(values: pl.Series) -> np.ndarray:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _by_query(results: pl.DataFrame, queries: Sequence[str], scale: RelevanceScale, cuts: Cuts) -> pl.DataFrame:
    """QUERIES: one row a query in the order that they were asked in."""
    run: dict[str, list[tuple[str, float]]] = {query: [] for query in queries}
    labels: dict[str, dict[str, int]] = {query: {} for query in queries}
    for query, item, rank, label in results.select("query", "item_id", "rank", "label").iter_rows():
        run[query].append((item, -float(rank)))
        if label is not None:
            labels[query][item] = scale.index(label)
    rates = goodrates(run, labels, scale, cuts.k).rename({"query_id": "query"})
    counts = results.group_by("query").agg(
        results=pl.len(), judged=pl.col("label").is_not_null().sum(), confidence=pl.col("confidence").mean()
    )
    table = rates.join(counts, on="query", how="left", maintain_order="left")
    pages = [page_of(rate, cuts.good, cuts.mid) for rate in table["item_goodrate"]]
    filled = table.with_columns(pl.col("results", "judged").fill_null(0), page=pl.Series(pages, dtype=pl.String))
    return filled.select(pl.col(name).cast(kind) for name, kind in QUERIES.items())


def _tier_shares(results: pl.DataFrame) -> dict[str, float | None]:
    """The share of results in each tier; None without a result."""
    tiers = results["tier"].fill_null("none")
    return {tier: float((tiers == tier).mean()) if len(tiers) else None for tier in TIERS}  # type: ignore[arg-type]


def _people_and_judge(results: pl.DataFrame, scale: RelevanceScale) -> dict[str, Any] | None:
    """How often the judge says what people said of what was shown; None where no result has both."""
    both = results.filter((pl.col("label_by") == PEOPLE) & pl.col("judge_label").is_not_null())
    if both.is_empty():
        return None
    people, judge = scale.indices(both["label"]), scale.indices(both["judge_label"])
    kappa = kappa_of(people, judge, len(scale), "quadratic")
    known = None if kappa != kappa else kappa
    return {"pairs": len(both), "same": float((people == judge).mean()), "kappa_quadratic": known}
