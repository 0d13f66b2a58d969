"""Times of events in tables: ISO texts, or numbers since 1970."""

from __future__ import annotations

import polars as pl

LATEST = 4_102_444_800  # seconds: the year 2100
TIME = pl.Datetime("us", "UTC")
EXPECTED = "a time from 1970 to 2100: ISO 8601, or seconds or milliseconds since 1970"
_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d",
)


def event_times(texts: pl.Series) -> pl.Series:
    """UTC times (N,) of texts; null where a text is none. Times without a zone are UTC.

    Numbers below 4.1e9 are seconds, larger ones milliseconds: 4.1e9 seconds are the year 2100, and as many milliseconds
    48 days after 1970.
    """
    number = pl.col("t").cast(pl.Float64, strict=False)
    seconds = pl.when(number > LATEST).then(number / 1000).otherwise(number)
    sound = pl.when(seconds.is_between(0, LATEST)).then(seconds)
    from_number = (sound * 1e6).round().cast(pl.Int64).cast(TIME)
    zoned = pl.col("t").str.replace(r"[Zz]$", "+00:00")
    parsed = [
        zoned.str.to_datetime(form, time_unit="us", time_zone="UTC" if "%#z" not in form else None, strict=False).cast(
            TIME
        )
        for form in _FORMATS
    ]
    stamps = pl.coalesce(from_number, *parsed)
    frame = texts.cast(pl.String).alias("t").to_frame()
    return frame.select(pl.when(stamps >= pl.lit(0).cast(TIME)).then(stamps).alias(texts.name)).to_series()
