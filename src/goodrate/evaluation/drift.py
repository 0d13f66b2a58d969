"""What has changed between two looks at a search: rates, pages of queries, tiers, the judge's confidence, items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from goodrate.evaluation.goodrates import page_is_good
from goodrate.evaluation.monitored import RATES, TIERS, Look
from goodrate.evaluation.significance import Interval, paired_bootstrap_difference, paired_randomisation

Known = Callable[[Sequence[str]], set[str]]  # item ids -> those that the index has


@dataclass(frozen=True)
class Change:
    """A rate before and after, over the queries of both runs; difference: after - before, with its interval and p."""

    before: float
    after: float
    difference: Interval
    p: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes null when it is written."""
        return {"before": self.before, "after": self.after, "difference": self.difference.as_dict(), "p": self.p}


@dataclass(frozen=True)
class QueryChange:
    """One query's page before and after. new, gone: items that came and went, those after in their order."""

    query: str
    before: float | None
    after: float | None
    page_before: str
    page_after: str
    new: tuple[str, ...]
    gone: tuple[str, ...]

    @property
    def change(self) -> float:
        """Of the share of good results; 0 where it is unknown in one of the two."""
        return 0.0 if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Drift:
    """From an earlier look to a later one, over the queries that both asked (shared); added and dropped are the others.

    tiers: (before, after) -> results that are on both pages, a tier of TIERS each. confidence: of the judge on the
    results that are on both pages, so that it tells a change of the judge from one of the results; NaN without one.
    vanished: items of earlier pages that the index lacks, and on how many pages they were. kept: results on both.
    """

    before: str
    after: str
    shared: int
    added: int
    dropped: int
    rates: dict[str, Change]
    queries: tuple[QueryChange, ...]
    tiers: dict[tuple[str, str], int]
    kept: int
    confidence: Change
    vanished: tuple[tuple[str, int], ...]
    facts: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All numbers for JSON."""
        return {
            "before": self.before, "after": self.after,
            "queries": {"shared": self.shared, "added": self.added, "dropped": self.dropped},
            "rates": {name: change.as_dict() for name, change in self.rates.items()},
            "changed_queries": [
                {
                    "query": one.query, "before": one.before, "after": one.after, "page_before": one.page_before,
                    "page_after": one.page_after, "new": list(one.new), "gone": list(one.gone),
                }
                for one in self.queries
            ],
            "tier_flows": [{"before": old, "after": new, "results": count} for (old, new), count in self.tiers.items()],
            "results_on_both": self.kept, "confidence_of_same_results": self.confidence.as_dict(),
            "vanished_items": [{"item_id": item, "pages": pages} for item, pages in self.vanished],
            "other_settings": list(self.facts),
        }  # fmt: skip


def drift(before: Look, after: Look, known: Known, seed: int = 0) -> Drift:
    """What has changed. known: says which items of the earlier pages the index still has.

    Raises ValueError when the two have no query in common, or labels on different scales.
    """
    if before.facts["scale"] != after.facts["scale"]:
        raise ValueError(
            f"{before.name} has labels on scale {before.facts['scale']}, {after.name} on {after.facts['scale']}: "
            "their rates cannot be compared"
        )
    table = after.queries.join(before.queries, on="query", suffix="_before", how="inner", maintain_order="left")
    if table.is_empty():
        raise ValueError(f"{before.name} and {after.name} have no query in common")
    pages = before.results.join(after.results, on=["query", "item_id"], suffix="_after", how="inner")
    return Drift(
        before.name, after.name, len(table), len(after.queries) - len(table), len(before.queries) - len(table),
        _rates(table, seed), _changed(table, before.results, after.results), _flows(pages), len(pages),
        _confidence(pages, seed), _vanished(before.results, known), _other(before.facts, after.facts),
    )  # fmt: skip


def _rates(table: pl.DataFrame, seed: int) -> dict[str, Change]:
    """RATES before and after over the shared queries."""

    def values(suffix: str) -> dict[str, np.ndarray]:
        shares = table[f"judged{suffix}"] / table[f"results{suffix}"]
        columns = {"item_goodrate": table[f"item_goodrate{suffix}"], "confidence": table[f"confidence{suffix}"]}
        known = {"query_goodrate": page_is_good(table[f"page{suffix}"])}
        return known | {name: _array(column) for name, column in (columns | {"judged_share": shares}).items()}

    old, new = values("_before"), values("")
    return {name: _change(old[name], new[name], seed) for name in RATES}


def _array(values: pl.Series) -> np.ndarray:
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _change(old: np.ndarray, new: np.ndarray, seed: int) -> Change:
    """Over the queries where both are known; a rate that is unknown in one of the two says nothing of a change."""
    both = ~(np.isnan(old) | np.isnan(new))
    if not both.any():
        nan = float("nan")
        return Change(nan, nan, Interval(nan, nan, nan, 0), nan)
    difference = paired_bootstrap_difference(new, old, seed)
    return Change(float(old[both].mean()), float(new[both].mean()), difference, paired_randomisation(new, old, seed))


def _changed(table: pl.DataFrame, old: pl.DataFrame, new: pl.DataFrame) -> tuple[QueryChange, ...]:
    """The queries whose page has changed, by the change of its goodrate, then by how many items came, then by text."""
    shown = [
        dict(frame.sort("rank").group_by("query", maintain_order=True).agg("item_id").rows()) for frame in (old, new)
    ]
    changes = []
    names = ("query", "item_goodrate_before", "item_goodrate", "page_before", "page")
    for query, before, after, page_before, page in table.select(names).iter_rows():
        first, second = (pages.get(query, []) for pages in shown)
        new_items = tuple(item for item in second if item not in set(first))
        gone = tuple(item for item in first if item not in set(second))
        if new_items or gone or before != after:
            changes.append(QueryChange(query, before, after, page_before, page, new_items, gone))
    return tuple(sorted(changes, key=lambda one: (-abs(one.change), -len(one.new) - len(one.gone), one.query)))


def _flows(pages: pl.DataFrame) -> dict[tuple[str, str], int]:
    """How many results of both pages went from one tier to another, or stayed; all pairs that occur."""
    old, new = pages["tier"].fill_null("none"), pages["tier_after"].fill_null("none")
    counts = dict.fromkeys(((a, b) for a in TIERS for b in TIERS), 0)
    for pair in zip(old, new, strict=True):
        counts[pair] += 1
    return {pair: count for pair, count in counts.items() if count}


def _confidence(pages: pl.DataFrame, seed: int) -> Change:
    """The judge's mean confidence of each query on results that are on both pages."""
    sure = pages.filter(pl.col("confidence").is_not_null() & pl.col("confidence_after").is_not_null())
    means = sure.group_by("query", maintain_order=True).agg(pl.col("confidence", "confidence_after").mean())
    return _change(_array(means["confidence"]), _array(means["confidence_after"]), seed)


def _vanished(old: pl.DataFrame, known: Known) -> tuple[tuple[str, int], ...]:
    """Items of earlier pages that the index lacks, those of most pages first."""
    pages = old.group_by("item_id").agg(pages=pl.col("query").n_unique())
    there = known(pages["item_id"].to_list())
    gone = pages.filter(~pl.col("item_id").is_in(list(there))).sort("pages", "item_id", descending=[True, False])
    return tuple((item, int(count)) for item, count in gone.rows())


COMPARED = ("judge", "grader", "judge_identity", "mode", "depth", "k", "page_good", "page_mid", "judgements")


def _other(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    """What the two runs were made with that is not the same: what a change may come from beside the search."""
    return tuple(
        f"{name}: {before.get(name)} then, {after.get(name)} now"
        for name in COMPARED
        if before.get(name) != after.get(name)
    )
