"""How far raters agree, and which pairs they disagree on most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from goodrate.catalog.judgements import Judgements
    from goodrate.evaluation.agreement import Agreement
    from goodrate.evaluation.significance import Interval  # noqa: F401


def rater_agreement(judgements: Judgements, seed: int = 0) -> Agreement:
    """Cohen's kappa and Krippendorff's alpha of judgements that were read with several raters.

    Raises ValueError when they were read without, or no pair has two labels.
    """
    from goodrate.evaluation import agreement

    return agreement.agreement(_ratings(judgements), judgements.scale, seed)


def disagreements(judgements: Judgements) -> pl.DataFrame:
    """The pairs with different labels, those furthest apart first."""
    from goodrate.evaluation import agreement

    return agreement.disagreements(_ratings(judgements), judgements.scale)


def write_disagreements(judgements: Judgements, out: str | Path) -> int:
    """Write the pairs with different labels as csv, whole or not at all; how many there are."""
    from goodrate.catalog.tables import write_table

    table = disagreements(judgements)
    write_table(Path(out), table)
    return len(table)


def _ratings(judgements: Judgements) -> pl.DataFrame:
    if judgements.read.ratings is None:
        raise ValueError(
            "these judgements have one label a pair and no raters: give a file with a column rater, or columns of one "
            "rater each (--raters), or several rows a pair (--merge)"
        )
    return judgements.read.ratings
