"""Prices as shops write them: the decimal sign and the currency are decided from the whole column, never row by row.

price-parser and babel read one text at a time, by guess or by a locale that is given; here `1.299` depends on what the
other rows look like, and a million rows are read without a loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from goodrate.catalog.currencies import UNDECIDED, check_currency, currency_of
from goodrate.catalog.problems import BadRow

DECIMALS = {"point": ".", "comma": ","}
EMPTY = ("", "null", "none", "nan")
SHOWN = 3  # rows that an error names
SIDES = ("front", "back")  # of an amount, where its currency may stand
PLAIN = "a number such as 19.99"
_MARK = r"[^\d\s.,'’+-][^\d\s,'’+-]*"
_WRITTEN = rf"^(?P<front>{_MARK})?\s*(?P<amount>[+-]?[.,]?\d(?:[\d.,'’ ]*\d)?)[.,]?\s?[-–—]*\s*(?P<back>{_MARK})?$"
_POWER = r"^\d+(\.\d+)?e[+-]?\d+$"  # what programs write for very large and small numbers


def _form(point: str, comma: str) -> str:
    """Amounts with this decimal sign: thousands by the other sign, apostrophes or blanks; lakhs by the other sign."""
    groups = rf"(?:{comma}\d{{3}})+|(?:['’]\d{{3}})+|(?: \d{{3}})+"
    lakhs = rf"[1-9]\d?(?:{comma}\d{{2}})+{comma}\d{{3}}"
    return rf"^(?:(?:\d+|[1-9]\d{{0,2}}(?:{groups})|{lakhs})(?:{point}\d+)?|{point}\d+)$"


FORMS = {"point": _form(r"\.", ","), "comma": _form(",", r"\.")}


@dataclass(frozen=True)
class PriceOptions:
    """What a catalogue's file does not say of its prices. decimal: point or comma; currency: an ISO code.

    None: as the column says itself. Raises ValueError for another decimal or an unknown currency.
    """

    decimal: str | None = None
    currency: str | None = None

    def __post_init__(self) -> None:
        if self.decimal not in (None, *DECIMALS):
            raise ValueError(f"--decimal knows {' and '.join(DECIMALS)}; got {self.decimal!r}")
        if self.currency is not None:
            object.__setattr__(self, "currency", check_currency(self.currency))


@dataclass(frozen=True)
class PriceColumn:
    """Prices (N,) Float64, null = unknown; currencies (N,) texts, "" = unknown; what is wrong; how it was read."""

    prices: pl.Series
    currencies: pl.Series
    problems: list[BadRow] = field(default_factory=list)
    notes: tuple[str, ...] = ()


class _Decision(NamedTuple):
    """The decimal sign of a column; whether anything says so; the rows (N,) that can only be read with the other."""

    decimal: str
    told: bool
    refused: pl.Series


def read_prices(
    texts: pl.Series, rows: pl.Series, options: PriceOptions, typed: pl.Series | None = None,
    named: pl.Series | None = None, place: str = "price",
) -> PriceColumn:  # fmt: skip
    """A column of prices. texts (N,): as written, null or empty = unknown; rows (N,): their numbers in the file.

    typed (N,) bool: the value was a number, not a text. named (N,): the currency of each row, where the file has a
    column of them. place: file and column, for errors. Raises ValueError where the column can be read in two ways.
    """
    frame = _written(texts, rows, typed)
    decision = _decimal(frame, options, place)
    amount = pl.col(decision.decimal)
    usable = amount.is_finite() & (amount >= 0)
    frame = frame.with_columns(price=pl.when(usable).then(amount))
    frame, currency_problems = _with_currency(frame, options, named, place)
    bad = frame.filter(pl.col("text").is_not_null() & pl.col("price").is_null())
    wanted = _example(decision.decimal) if decision.refused.any() else PLAIN
    problems = [BadRow(row, "price", f"{wanted}, found {text!r}") for row, text in bad.select("row", "text").rows()]
    named_bad = {problem.row for problem in problems}
    problems += [problem for problem in currency_problems if problem.row not in named_bad]
    return PriceColumn(frame["price"], frame["currency"], problems, _notes(frame, decision, named is None))


def _example(decimal: str) -> str:
    return f"a price with a decimal {decimal}, as the column has, such as 19{DECIMALS[decimal]}99"


def _written(texts: pl.Series, rows: pl.Series, typed: pl.Series | None) -> pl.DataFrame:
    """row, text (as written, null where empty), mark (what stands beside the amount), and the amount in both forms."""
    numbers = pl.Series([False]).new_from_index(0, len(texts)) if typed is None else typed
    frame = pl.DataFrame({"row": rows, "text": texts, "typed": numbers})
    flat = pl.col("text").str.normalize("NFKC").str.replace_all(r"\s+", " ").str.strip_chars()
    frame = frame.with_columns(flat=flat)
    frame = frame.with_columns(text=pl.when(~pl.col("flat").str.to_lowercase().is_in(EMPTY)).then(pl.col("text")))
    parts = pl.col("flat").str.extract_groups(_WRITTEN).struct
    number = pl.col("flat").cast(pl.Float64, strict=False)
    alone = pl.col("typed") | pl.col("flat").str.to_lowercase().str.contains(_POWER)
    frame = frame.with_columns(
        amount=parts.field("amount"), front=parts.field("front"), back=parts.field("back"), number=number, alone=alone
    )
    return frame.with_columns(_amount(decimal).alias(decimal) for decimal in FORMS)


def _amount(decimal: str) -> pl.Expr:
    """The amount with this decimal sign, null where it is not written so."""
    other = "," if decimal == "point" else "."
    digits = pl.col("amount").str.replace_all(rf"[{other}'’ ]", "").str.replace(",", ".", literal=True)
    fits = pl.col("amount").str.contains(FORMS[decimal])
    read = pl.when(fits).then(digits).cast(pl.Float64, strict=False)
    return pl.when(pl.col("alone")).then(pl.col("number")).otherwise(read)


def _decimal(frame: pl.DataFrame, options: PriceOptions, place: str) -> _Decision:
    """Which sign is the decimal one: that of the rows that can only be read so."""
    point, comma = pl.col("point").is_not_null(), pl.col("comma").is_not_null()
    only = frame.select(point=point & ~comma, comma=comma & ~point)
    counts = {decimal: int(only[decimal].sum()) for decimal in DECIMALS}
    decimal = options.decimal or max(counts, key=lambda name: counts[name])
    twofold = frame.filter(pl.col("point") != pl.col("comma"))
    if options.decimal is None and counts["point"] == counts["comma"] and (counts["point"] or len(twofold)):
        raise ValueError(_undecided(frame, only, twofold, place))
    other = next(name for name in DECIMALS if name != decimal)
    return _Decision(decimal, bool(options.decimal or counts[decimal]), only[other])


def _undecided(frame: pl.DataFrame, only: pl.DataFrame, twofold: pl.DataFrame, place: str) -> str:
    """The message for a column that can be read in two ways."""
    way_out = "say --decimal point or --decimal comma (data.decimal in training, decimal= in Python)"
    if len(twofold) and not only["point"].any():
        row, text, point, comma = twofold.select("row", "text", "point", "comma").row(0)
        more = f" and {len(twofold) - 1:,} more" if len(twofold) > 1 else ""
        return (
            f"{place}: {text!r} (row {row}{more}) is {point:.15g} with a decimal point and {comma:.15g} with a decimal "
            f"comma, and no other row decides; {way_out}"
        )
    kinds = [
        f"{', '.join(map(str, frame.filter(only[name])['row'].head(SHOWN)))} with a decimal {name}" for name in DECIMALS
    ]
    return f"{place}: as many rows have a decimal point as a decimal comma (row {', row '.join(kinds)}); {way_out}"


def _with_currency(
    frame: pl.DataFrame, options: PriceOptions, named: pl.Series | None, place: str
) -> tuple[pl.DataFrame, list[BadRow]]:
    """The frame with `currency`; a mark that says none, or another currency than the row's, leaves no price."""
    marks = pl.concat([frame[side] for side in SIDES]).drop_nulls().unique().to_list()
    codes = {mark: currency_of(mark, options.currency) for mark in marks}
    undecided = [mark for mark, code in codes.items() if code is None and mark.lower() in UNDECIDED]
    if undecided:
        either = ", ".join(UNDECIDED[undecided[0].lower()])
        raise ValueError(f"{place}: {undecided[0]!r} can be {either}; say which with --currency "
                         "(data.currency in training, currency= in Python)")  # fmt: skip
    known = {mark: code or "?" for mark, code in codes.items()}
    frame = frame.with_columns(
        pl.col(side).replace_strict(known, default=None, return_dtype=pl.String) for side in SIDES
    )
    clash = (pl.col("front") == "?") | (pl.col("back") == "?") | (pl.col("front") != pl.col("back"))
    frame = frame.with_columns(
        written=pl.coalesce("front", "back"), price=pl.when(~clash.fill_null(False)).then(pl.col("price"))
    )
    return _one_currency(frame, options.currency) if named is None else _row_currencies(frame, options.currency, named)


def _one_currency(frame: pl.DataFrame, asked: str | None) -> tuple[pl.DataFrame, list[BadRow]]:
    """One currency for the whole column: the one that was asked for, or that most rows have; others are problems."""
    counts = frame.filter(pl.col("price").is_not_null())["written"].drop_nulls().value_counts(sort=True, name="n")
    most = counts.sort(["n", "written"], descending=[True, False])["written"].head(1).to_list()
    main = asked or (most[0] if most else "")
    other = frame.filter(pl.col("price").is_not_null() & (pl.col("written") != main))
    said = "as --currency says" if asked else "as most rows have, because a column of prices has one currency"
    problems = [
        BadRow(row, "price", f"a price in {main}, {said}, found {text!r} (a column currency names each row's)")
        for row, text in other.select("row", "text").rows()
    ]
    currency = pl.when(pl.col("price").is_not_null()).then(pl.lit(main)).otherwise(pl.lit(""))
    return frame.with_columns(currency=currency), problems


def _row_currencies(
    frame: pl.DataFrame, asked: str | None, named: pl.Series
) -> tuple[pl.DataFrame, list[BadRow]]:  # fmt: skip
    """The currency that each row names; the price's own sign, or the one that was asked for, where it names none."""
    filled = named.fill_null("")
    codes = {text: currency_of(text, asked) or "?" for text in filled.unique() if text}
    read = pl.Series("named", filled).replace_strict(codes, default="", return_dtype=pl.String)
    frame = frame.with_columns(named=read, told=filled)
    unknown = frame.filter(pl.col("named") == "?")
    problems = [
        BadRow(row, "currency", f"a currency code such as EUR, found {text!r}")
        for row, text in unknown.select("row", "told").rows()
    ]
    clash = frame.filter((pl.col("named") != "") & (pl.col("named") != "?") & (pl.col("named") != pl.col("written")))
    problems += [
        BadRow(row, "price", f"a price in {code}, as the row's currency says, found {text!r}")
        for row, code, text in clash.select("row", "named", "text").rows()
    ]
    first = pl.when(pl.col("named") != "").then(pl.col("named"))
    return frame.with_columns(currency=pl.coalesce(first, "written", pl.lit(asked or ""))), problems


def _notes(frame: pl.DataFrame, decision: _Decision, one: bool) -> tuple[str, ...]:
    """How the column was read, unless it holds plain numbers alone. one: it has one currency."""
    told = frame.filter(pl.col("price").is_not_null() & ~pl.col("alone"))
    plain = (pl.col("number") == pl.col("price")).fill_null(False)
    odd = told.filter(~plain).sort(pl.col("flat").str.len_chars(), "row", descending=[True, False])
    if odd.is_empty():
        return ()
    text, price = odd.select("text", "price").row(0)
    codes = told["currency"].filter(told["currency"] != "")
    named = codes[0] if one and len(codes) else "the currency of each row" if len(codes) else ""
    how = [f"decimal {decision.decimal}" if decision.told else "", named]
    silent = int(told["written"].is_null().sum()) if one and told["written"].is_not_null().any() else 0
    more = f"; {silent:,} without a currency count as {named}" if silent else ""
    return (f"price: {', '.join(part for part in how if part)}; {text!r} is {price:.2f}{more}".replace(": ;", ":"),)
