"""Several people's labels of one pair: from columns or rows of a file to one label by a stated rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import polars as pl

from goodrate.catalog.problems import BadRow
from goodrate.catalog.readers import as_text
from goodrate.catalog.tables import ROW, RawTable
from goodrate.scale import LabelsBy, Merge, RelevanceScale

RATER_COLUMNS = ("rater", "annotator", "worker", "assessor", "rater_id", "annotator_id", "worker_id", "assessor_id")
PAIR = ("query_id", "item_id")
MODEL = "model:"  # what the name of a rater begins with that is no person, as goodrate label writes it
BY_MODEL = pl.col("rater").str.strip_chars().str.to_lowercase().str.starts_with(MODEL).fill_null(False)
PLACE = pl.col("place")
# Each gives a label that a rater or the scale between them has; where two are as good, the lower one.
RULES: dict[Merge, pl.Expr] = {
    "median": PLACE.sort().get((pl.len() - 1) // 2),
    "majority": PLACE.mode().min(),
    "mean": (PLACE.mean() - 0.5).ceil().cast(pl.Int64),
    "min": PLACE.min(),
}
IN_WORDS: dict[Merge, str] = {
    "median": "the median, the lower one of two",
    "majority": "the most frequent label, the lower one of two",
    "mean": "the mean of the labels' places, rounded, half down",
    "min": "the lowest label",
}


@dataclass(frozen=True)
class MergeReport:
    """What merging did. raters: how many there are, None where the file does not name them.

    several: pairs with more than one label; differing: those whose labels are not all the same.
    """

    rule: Merge
    raters: int | None
    pairs: int
    several: int
    differing: int

    def __str__(self) -> str:
        by = f"{self.raters:,} raters" if self.raters is not None else "raters without names"
        share = f" ({self.differing / self.several:.1%})" if self.several else ""
        return (
            f"{by}: {self.several:,} of {self.pairs:,} pairs have several labels, {self.differing:,} of them{share} "
            f"different ones; merged by {self.rule}: {IN_WORDS[self.rule]}"
        )


@dataclass(frozen=True)
class ModelLabels:
    """Labels that a model made, of those that were read. pairs: query_id, item_id; names: of the models.

    people: how many labels of people are read beside them. left_out: how many labels are not, in words; "" for none.
    """

    pairs: pl.DataFrame
    names: tuple[str, ...]
    people: int
    left_out: str = ""

    def __str__(self) -> str:
        if not len(self.pairs):
            return self.left_out
        beside = f" and {self.people:,} by people" if self.people else ", not by people"
        left_out = f"; {self.left_out}" if self.left_out else ""
        return f"{len(self.pairs):,} pairs are labelled by {', '.join(self.names)}{beside}{left_out}"


def chosen_labels(frame: pl.DataFrame, by: LabelsBy, source: object) -> tuple[pl.DataFrame, ModelLabels | None]:
    """The ratings of those whose labels are wanted, and what there is of models; None where the file names none.

    frame: query_id, item_id, and rater where named. Raises ValueError when no such label is there.
    """
    way_out = "(--labels-by, in training data.labels_by, in Python labels_by=)"
    models = frame.filter(BY_MODEL) if "rater" in frame.columns else frame.clear()
    if models.is_empty():
        if by == "model":
            raise ValueError(f"{source}: no label is made by a model: no rater's name begins with {MODEL!r} {way_out}")
        return frame, None
    people = frame.filter(~BY_MODEL)
    made_by = ", ".join(models["rater"].unique(maintain_order=True))
    if by == "people" and people.is_empty():
        raise ValueError(
            f"{source}: all {len(models):,} labels are made by {made_by}, not by people; take them {way_out}"
        )
    told = ""
    if by == "people":
        told, models = f"{len(models):,} labels made by {made_by} are left out {way_out}", models.clear()
    elif by == "model":
        told, people = f"{len(people):,} labels of people are left out {way_out}" if len(people) else "", people.clear()
    else:
        alone = models.join(people.select(PAIR).unique(), on=PAIR, how="anti", maintain_order="left")
        if len(alone) < len(models):
            told = f"{len(models) - len(alone):,} labels of a model are left out where people labelled the pair"
        models = alone
    names = tuple(models["rater"].unique(maintain_order=True))
    pairs = models.select(PAIR).unique(maintain_order=True)
    return pl.concat([people, models]), ModelLabels(
        pairs, names, people.select(PAIR).n_unique() if len(people) else 0, told
    )


def chosen_columns(columns: Sequence[str], patterns: Sequence[str], source: object) -> list[str]:
    """The columns that the patterns name, such as agent_*_rating, in the file's order.

    Raises ValueError when a pattern names none or all of them name fewer than two.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in columns):
            raise ValueError(f"{source}: --raters {pattern!r} names no column; columns: {', '.join(columns[:30])}")
    chosen = [name for name in columns if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if len(chosen) < 2:
        raise ValueError(f"{source}: --raters names one column, {chosen[0]!r}; expected two or more, each of one rater")
    return chosen


def likely_raters(columns: Sequence[str]) -> str | None:
    """A pattern of two or more columns that differ in a number alone, such as agent_*_rating; None without any.

    >>> likely_raters(["query", "agent_1_rating", "agent_2_rating", "final_rating"])
    'agent_*_rating'
    """
    patterns = [re.sub(r"\d+", "*", name) for name in columns if re.search(r"\d", name)]
    return next((pattern for pattern in patterns if patterns.count(pattern) > 1), None)


def long_form(table: RawTable, frame: pl.DataFrame, raters: Sequence[str]) -> pl.DataFrame:
    """One row for each rater's column: frame's columns, label and rater. frame: one row a row of the table."""
    own = table.frame.select(ROW, *(as_text(table.frame, name).alias(name) for name in raters))
    return frame.join(own, on=ROW).unpivot(raters, index=frame.columns, variable_name="rater", value_name="label")


def label_problems(frame: pl.DataFrame, merge: Merge | None) -> list[BadRow]:
    """Pairs with two labels of one rater, or of nobody when no rule merges them. frame: no two rows are the same."""
    named = "rater" in frame.columns
    if merge is not None and not named:
        return []
    key = [*PAIR, *(["rater"] if named else [])]
    first = pl.col(ROW).min().over(key).alias("first")
    other = frame.with_columns(first).filter(pl.col(ROW) > pl.col("first"))
    rows = [(row, f"row {seen} gives another") for row, seen in other.select(ROW, "first").rows()]
    what = "one label a rater and pair" if named else "one label a pair"
    way_out = "" if named else " (--merge median, majority, mean or min makes one of them)"
    return [BadRow(row, "label", f"{what}; {told}{way_out}") for row, told in rows]


def merged(frame: pl.DataFrame, scale: RelevanceScale, rule: Merge) -> tuple[pl.DataFrame, MergeReport]:
    """One row a pair, in the order of first appearance, and what was merged. frame: labels of the scale."""
    places = {label: scale.index(label) for label in frame["label"].unique()}
    counted = frame.with_columns(place=pl.col("label").replace_strict(places, return_dtype=pl.Int64))
    pairs = counted.group_by(PAIR, maintain_order=True).agg(
        pl.col("query").first(), RULES[rule].alias("merged"), several=pl.len() > 1, differing=PLACE.n_unique() > 1
    )
    names = dict(enumerate(scale.labels))
    label = pl.col("merged").replace_strict(names, return_dtype=pl.String).alias("label")
    raters = frame["rater"].n_unique() if "rater" in frame.columns else None
    report = MergeReport(rule, raters, len(pairs), int(pairs["several"].sum()), int(pairs["differing"].sum()))
    return pairs.select("query_id", "query", "item_id", label), report
