"""How far people who labelled the same pairs agree: Cohen's kappa of two raters, Krippendorff's alpha of all."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any, Literal

import numpy as np
import polars as pl

from goodrate.catalog.raters import BY_MODEL
from goodrate.evaluation.significance import Interval, bootstrap_over_groups
from goodrate.scale import RelevanceScale

Weights = Literal["none", "linear", "quadratic"]
Level = Literal["ordinal", "nominal"]
PAIR = ["query_id", "item_id"]
RESAMPLES = 500


@dataclass(frozen=True)
class RaterPair:
    """Two raters on the pairs that both labelled. kappa: by weights; NaN where both used one and the same label."""

    raters: tuple[str, str]
    pairs: int
    same: float
    kappa: dict[Weights, float]


@dataclass(frozen=True)
class Agreement:
    """All raters. by_raters: number of labels of a pair -> how many pairs have as many.

    alpha: Krippendorff's with ordinal and with nominal distances, intervals over queries. several: pairs with two
    labels or more; differing: those with different ones. rater_pairs is empty where the file names no raters. models:
    those raters that are models: they stand in ratings and rater_pairs alone.
    """

    scale: RelevanceScale
    raters: tuple[str, ...]
    ratings: int
    by_raters: dict[int, int]
    several: int
    differing: int
    alpha: dict[str, Interval]
    rater_pairs: tuple[RaterPair, ...]
    models: tuple[str, ...] = ()

    @property
    def unshared(self) -> int:
        """How many twos of raters share no pair."""
        return comb(len(self.raters), 2) - len(self.rater_pairs)

    def as_dict(self) -> dict[str, Any]:
        """All numbers for JSON; what is not known is NaN, which the writer makes null."""
        return {
            "scale": self.scale.name,
            "raters": list(self.raters),
            "models": list(self.models),
            "ratings": self.ratings,
            "pairs_by_number_of_labels": {str(number): count for number, count in self.by_raters.items()},
            "pairs_with_several_labels": self.several,
            "pairs_with_different_labels": self.differing,
            "krippendorff_alpha": {name: interval.as_dict() for name, interval in self.alpha.items()},
            "cohen_kappa": [
                {"raters": list(two.raters), "pairs": two.pairs, "same_label": two.same, **two.kappa}
                for two in self.rater_pairs
            ],
        }


def agreement(ratings: pl.DataFrame, scale: RelevanceScale, seed: int = 0) -> Agreement:
    """How far raters agree. ratings: query_id, item_id, label and rater where named, one row a rating.

    Where some raters are models, alpha and the counts of labels are of people alone.

    Alpha: Krippendorff, Content Analysis (2004), chapter 11, by the package krippendorff; kappa: Cohen 1960 and 1968,
    by scikit-learn. Raises ValueError when no pair has two labels.
    """
    table = ratings.with_columns(place=pl.Series(scale.indices(ratings["label"])))
    models = _models(table)
    counts = (
        (table.filter(~BY_MODEL) if models else table)
        .group_by(PAIR, maintain_order=True)
        .agg(*((pl.col("place") == place).sum().alias(str(place)) for place in range(len(scale))), labels=pl.len())
    )
    values = counts.select(str(place) for place in range(len(scale))).to_numpy().astype(np.int64)
    several = counts["labels"].to_numpy() > 1
    if not several.any() and not models:
        raise ValueError(
            f"none of the {len(counts):,} pairs has two labels; agreement needs several raters on one pair"
        )
    queries = counts["query_id"].filter(pl.Series(several)).to_list()
    levels: tuple[Level, ...] = ("ordinal", "nominal") if several.any() else ()
    alpha: dict[str, Interval] = {level: _with_interval(values[several], level, queries, seed) for level in levels}
    raters = tuple(sorted(table["rater"].unique())) if "rater" in table.columns else ()
    two = rater_pairs(table, len(scale)) if raters else ()
    sizes = dict(sorted(counts["labels"].value_counts().rows()))
    differing = int(((values > 0).sum(axis=1) > 1).sum())
    return Agreement(scale, raters, len(table), sizes, int(several.sum()), differing, alpha, two, models)


def _models(table: pl.DataFrame) -> tuple[str, ...]:
    """The raters that are models."""
    return tuple(sorted(table.filter(BY_MODEL)["rater"].unique())) if "rater" in table.columns else ()


def _with_interval(value_counts: np.ndarray, level: Level, queries: list[str], seed: int) -> Interval:
    """Alpha with its interval over queries."""
    return bootstrap_over_groups(lambda rows: alpha_of(value_counts[rows], level), queries, seed, resamples=RESAMPLES)


def alpha_of(value_counts: np.ndarray, level: Level) -> float:
    """Krippendorff's alpha of (N, L) label counts; NaN where only one label occurs: nothing could differ."""
    import krippendorff

    if not len(value_counts) or (value_counts.sum(axis=0) > 0).sum() < 2:
        return float("nan")
    domain = np.arange(value_counts.shape[1])
    return float(krippendorff.alpha(value_counts=value_counts, value_domain=domain, level_of_measurement=level))


def rater_pairs(table: pl.DataFrame, labels: int) -> tuple[RaterPair, ...]:
    """Every two raters who share pairs, those who share most first."""
    own = table.select(*PAIR, "rater", "place")
    both = own.join(own, on=PAIR, suffix="_second").filter(pl.col("rater") < pl.col("rater_second"))
    found = []
    for (first, second), rows in both.group_by("rater", "rater_second"):
        left, right = rows["place"].to_numpy(), rows["place_second"].to_numpy()
        kappas = kappas_of(left, right, labels)
        found.append(RaterPair((str(first), str(second)), len(rows), float((left == right).mean()), kappas))
    return tuple(sorted(found, key=lambda two: (-two.pairs, two.raters)))


def kappas_of(left: np.ndarray, right: np.ndarray, labels: int) -> dict[Weights, float]:
    """kappa_of with all three weightings."""
    return {"none": kappa_of(left, right, labels, "none"), "linear": kappa_of(left, right, labels, "linear"),
            "quadratic": kappa_of(left, right, labels, "quadratic")}  # fmt: skip


def kappa_of(left: np.ndarray, right: np.ndarray, labels: int, weights: Weights) -> float:
    """Cohen's kappa (1960, weighted 1968) of label positions (N,) each, by scikit-learn.

    NaN where both raters have one and the same label throughout.
    """
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(np.concatenate([left, right]))) < 2:
        return float("nan")
    known = None if weights == "none" else weights
    return float(cohen_kappa_score(left, right, labels=list(range(labels)), weights=known))


def disagreements(ratings: pl.DataFrame, scale: RelevanceScale) -> pl.DataFrame:
    """The pairs with different labels, those furthest apart first: spread in labels, then by their standard deviation.

    Columns query_id, query, item_id, spread, labels (how many), and one a rater, or the labels in a list of texts.
    """
    table = ratings.with_columns(place=pl.Series(scale.indices(ratings["label"])))
    place = pl.col("place")
    said = pl.col("label").sort_by("place").str.join("; ")
    spread = table.group_by(PAIR).agg(
        pl.col("query").first(), spread=place.max() - place.min(), deviation=place.std(), labels=pl.len(), said=said
    )
    wide = spread.filter(pl.col("spread") > 0)
    wide = wide.sort("spread", "deviation", "query_id", "item_id", descending=[True, True, False, False])
    head = wide.select("query_id", "query", "item_id", "spread", "labels")
    if "rater" not in ratings.columns:
        return head.with_columns(wide["said"])
    names = sorted(ratings["rater"].unique())
    by_rater = ratings.pivot("rater", index=PAIR, values="label").select(*PAIR, *names)
    by_rater = by_rater.rename({name: f"label of {name}" for name in names})
    return head.join(by_rater, on=PAIR, how="left", maintain_order="left")
