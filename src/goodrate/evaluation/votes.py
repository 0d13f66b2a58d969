"""Good, Same, Bad by people: how much better they find one system than another, and how far they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from goodrate.evaluation.agreement import Agreement, agreement
from goodrate.evaluation.side_by_side import SideBySide, side_by_side
from goodrate.evaluation.significance import Interval, bootstrap_ratio
from goodrate.scale import RelevanceScale

# Of the second system: what a person says when it is better is Good.
GSB = RelevanceScale(
    name="side_by_side", labels=("bad", "same", "good"), gains=(0.0, 0.5, 1.0), positive=frozenset({"good"})
)


@dataclass(frozen=True)
class VoteReport:
    """What people say of two systems. gsb: (G - B) / (G + S + B) over all queries with its interval over queries.

    queries: of the set; identical: those with one and the same list, which count as Same; asked: those that people are
    asked about; counts: of those that somebody voted on, by the majority of their raters (a tie is Same), with the
    two-sided sign test. votes: by rater. raters_agree: None where no query has votes of two.
    """

    queries: int
    identical: int
    asked: int
    counts: SideBySide
    gsb: Interval
    votes: dict[str, int]
    raters_agree: Agreement | None

    @property
    def voted(self) -> int:
        """How many of the asked queries have a vote."""
        return self.counts.good + self.counts.same + self.counts.bad

    def as_dict(self) -> dict[str, Any]:
        """All numbers for JSON."""
        return {
            "queries": self.queries, "identical": self.identical, "asked": self.asked, "voted": self.voted,
            "good": self.counts.good, "same": self.counts.same, "bad": self.counts.bad,
            "gsb": self.gsb.as_dict(), "sign_test_p": self.counts.p, "votes": self.votes,
            "agreement": self.raters_agree.as_dict() if self.raters_agree else None,
        }  # fmt: skip


def vote_report(votes: pl.DataFrame, queries: int, identical: int, asked: int, seed: int = 0) -> VoteReport:
    """The report of votes: one row each with query, rater, label (GSB) and the chance that its query had to be asked.

    A query speaks for 1 / chance queries that differ; those with one and the same list count as Same, each for itself.
    Raises ValueError when nobody has voted.
    """
    if votes.is_empty():
        raise ValueError("nobody has voted yet")
    places = pl.Series("place", GSB.indices(votes["label"]) - 1)
    by_query = (
        votes.with_columns(places)
        .group_by("query", maintain_order=True)
        .agg(pl.col("place").mean().sign(), pl.col("chance").first())
    )
    scores, chance = by_query["place"].to_numpy(), by_query["chance"].to_numpy()
    weights = (queries - identical) * (1 / chance) / (1 / chance).sum()
    every = np.append(weights, np.ones(identical))
    gsb = bootstrap_ratio(np.append(weights * scores, np.zeros(identical)), every, seed)
    by_rater = votes.group_by("rater").len().sort("rater")
    return VoteReport(
        queries, identical, asked, side_by_side(scores, np.zeros(len(scores))), gsb, dict(by_rater.iter_rows()),
        _agreement(votes, seed),
    )  # fmt: skip


def _agreement(votes: pl.DataFrame, seed: int) -> Agreement | None:
    """How far raters agree on the queries that several of them voted on."""
    if votes["query"].n_unique() == len(votes):
        return None
    ratings = votes.select(pl.col("query").alias("query_id"), pl.lit("").alias("item_id"), "rater", "label")
    return agreement(ratings, GSB, seed)
