"""Ids that programs write in other ways: 1001.0 for 1001 (numbers with a gap among them), 123 for 00123 (spreadsheets).

Ids are compared as they are written; only those that are found nowhere so are compared without such changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

_WHOLE_FLOAT = r"^\d+\.0+$"
_DIGITS = r"^0*(\d+?)(?:\.0+)?$"  # without leading zeros and .0


def without_point_zero(ids: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    """The ids without ".0" where all that are filled end in it, and the line that then says so."""
    filled = ids.drop_nulls()
    filled = filled.filter(filled != "")
    if filled.is_empty() or not filled.str.contains(_WHOLE_FLOAT).all():
        return ids, ()
    return ids.str.replace(r"\.0+$", ""), (f"ids are whole numbers and are taken without their .0 ({filled[0]})",)


@dataclass(frozen=True)
class IdMatch:
    """Ids of one file as another one writes them. renamed: (theirs, ours), for ids that are written otherwise."""

    renamed: pl.DataFrame

    def apply(self, ids: pl.Series) -> pl.Series:
        """The ids as the other file writes them; unknown ones as they are."""
        return ids.replace(self.renamed["theirs"], self.renamed["ours"]) if len(self.renamed) else ids

    def __str__(self) -> str:
        """How many ids are written otherwise, and how; "" when none is."""
        if self.renamed.is_empty():
            return ""
        theirs, ours = self.renamed.row(0)
        count = len(self.renamed)
        what = "item id is" if count == 1 else "item ids are"
        return f"{count:,} {what} written otherwise, with other leading zeros or .0, such as {theirs!r} for {ours!r}"


def match_ids(ids: Sequence[str] | pl.Series, known: Sequence[str] | pl.Series) -> IdMatch:
    """How `ids` are written among `known`, for those that are not among them but with other leading zeros or ".0".

    Raises ValueError for an id that stands for two known ones, and for two ids that stand for one.
    """
    known_ids = pl.DataFrame({"ours": pl.Series(known, dtype=pl.String)}).unique(maintain_order=True)
    theirs = pl.DataFrame({"theirs": pl.Series(ids, dtype=pl.String)}).unique(maintain_order=True)
    missing = theirs.join(known_ids, left_on="theirs", right_on="ours", how="anti", maintain_order="left")
    missing = _with_key(missing, "theirs")
    if missing.is_empty():
        return IdMatch(pl.DataFrame(schema={"theirs": pl.String, "ours": pl.String}))
    pairs = missing.join(_with_key(known_ids, "ours"), on="key", maintain_order="left_right")
    _refuse_several(pairs, "theirs", "ours", "item id {0!r} can be {1!r} or {2!r} of the catalogue")
    written = theirs.join(pairs.select("ours"), left_on="theirs", right_on="ours", how="semi")
    both = pl.concat([pairs.select("theirs", "ours"), written.select("theirs", ours="theirs")])
    _refuse_several(both, "ours", "theirs", "item {0!r} of the catalogue is written {1!r} and {2!r} in one file")
    return IdMatch(pairs.select("theirs", "ours"))


def _with_key(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """The rows whose id is digits, with what is left without leading zeros and .0."""
    return frame.with_columns(key=pl.col(column).str.extract(_DIGITS, 1)).filter(pl.col("key").is_not_null())


def _refuse_several(pairs: pl.DataFrame, one: str, several: str, message: str) -> None:
    """ValueError for the first value of `one` that has two of `several`."""
    doubled = pairs.filter(pl.col(one).is_duplicated())
    if len(doubled):
        first = doubled[one][0]
        others = doubled.filter(pl.col(one) == first)[several]
        raise ValueError(f"{message.format(first, others[0], others[1])}; expected ids as the catalogue writes them")
