"""How far raters agree as time goes on: by day, or by so many pairs, of those that two or more have labelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import polars as pl

from goodrate.evaluation.agreement import PAIR, alpha_of, rater_pairs
from goodrate.scale import RelevanceScale

By = Literal["day"] | int


@dataclass(frozen=True)
class Period:
    """A stretch of time. first, last: when its first and last pair got the label that made it comparable (UTC, ISO).

    pairs: of two raters or more. same: share of twos of labels that are the same. kappa, kappa_quadratic: the mean of
    Cohen's kappa over the twos of raters, by the pairs that they share; alpha: Krippendorff's, ordinal. NaN: only one
    label occurs, so nothing could differ.
    """

    first: str
    last: str
    pairs: int
    same: float
    kappa: float
    kappa_quadratic: float
    alpha: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes null."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def agreement_over_time(ratings: pl.DataFrame, scale: RelevanceScale, by: By = "day") -> list[Period]:
    """The periods, the first first; none where no pair has two raters.

    ratings: query_id, item_id, rater, label (a name of the scale) and time (seconds since 1970), one row a rating; a
    pair stands in the period in which its last label came. by: "day" (of UTC), or how many pairs make a period.
    Raises ValueError for another `by`.
    """
    if by != "day" and by < 1:
        raise ValueError(f"by is {by!r}; expected 'day' or a number of pairs")
    table = ratings.with_columns(place=pl.Series(scale.indices(ratings["label"]), dtype=pl.Int64))
    whole = table.group_by(PAIR).agg(raters=pl.col("rater").n_unique(), when=pl.col("time").max())
    whole = whole.filter(pl.col("raters") > 1).sort("when", *PAIR)
    return [_period(table, pairs, scale) for pairs in _parts(whole, by)]


def _parts(whole: pl.DataFrame, by: By) -> Iterator[pl.DataFrame]:
    """The pairs of each period."""
    if by == "day":
        day = (pl.col("when") // 86400).alias("day")
        yield from whole.with_columns(day).partition_by("day", maintain_order=True, include_key=False)
        return
    for start in range(0, len(whole), by):
        yield whole.slice(start, by)


def _period(table: pl.DataFrame, pairs: pl.DataFrame, scale: RelevanceScale) -> Period:
    rows = table.join(pairs.select(PAIR), on=PAIR, how="semi")
    twos = rater_pairs(rows, len(scale))
    shared = np.asarray([two.pairs for two in twos], dtype=np.float64)
    counts = rows.group_by(PAIR, maintain_order=True).agg(
        (pl.col("place") == place).sum().alias(str(place)) for place in range(len(scale))
    )
    values = counts.select(str(place) for place in range(len(scale))).to_numpy().astype(np.int64)
    return Period(
        _moment(pairs["when"][0]), _moment(pairs["when"][-1]), len(pairs),
        float(np.average([two.same for two in twos], weights=shared)),
        _mean([two.kappa["none"] for two in twos], shared), _mean([two.kappa["quadratic"] for two in twos], shared),
        alpha_of(values, "ordinal"),
    )  # fmt: skip


def _mean(values: list[float], weights: np.ndarray) -> float:
    """The weighted mean of the known values, NaN without one."""
    array = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(array)
    return float(np.average(array[known], weights=weights[known])) if known.any() else float("nan")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
