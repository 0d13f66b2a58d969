"""Columns of event files as numpy arrays: ids as (values, offsets), numbers, labels, times; what is wrong is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from goodrate.catalog.text_hash import hash_texts

TimeUnit = Literal["s", "ms", "us", "ns"]
MICROSECONDS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
LATEST = 4_102_444_800_000_000  # microseconds: the year 2100; later times are of another unit
MOST_POSITION = 1_000_000
Bags = tuple[np.ndarray, np.ndarray]  # values int64 (M,), offsets int64 (N + 1,): row n has values[o[n] : o[n + 1]]


@dataclass(frozen=True)
class EventColumns:
    """Which columns of event files are read, and as what.

    ids: integers or texts, or lists of them; texts are hashed; an empty list or null is a row without an id.
    numbers: numbers, or lists of at most one; null or an empty list is missing. label: 0 or 1. time: a timestamp, or
    a number of time_units since 1970. texts: texts or integers, kept as texts without blanks around them. position: a
    whole number from 1.
    """

    ids: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    label: str | None = None
    time: str | None = None
    time_unit: TimeUnit = "s"
    texts: tuple[str, ...] = ()
    position: str | None = None

    def __post_init__(self) -> None:
        names = self.names
        if not names:
            raise ValueError("no column to read: name at least one id, number, text, position, label or time")
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"column {doubled[0]!r} is named twice among the columns to read")
        if self.time_unit not in MICROSECONDS:
            raise ValueError(f"time_unit {self.time_unit!r}; expected one of {', '.join(MICROSECONDS)}")

    @property
    def names(self) -> list[str]:
        """All columns, in the order ids, numbers, texts, position, label, time."""
        single = (self.position, self.label, self.time)
        return [*self.ids, *self.numbers, *self.texts, *(name for name in single if name is not None)]


@dataclass(frozen=True)
class Place:
    """Where the rows of a batch lie. group: of the file, from 0; first: its first row's number in the file, from 1."""

    path: Path
    group: int
    first: int

    def refuse(self, row: int | None, column: str, expected: str) -> NoReturn:
        """ValueError for a row of the batch (from 0), or for all of the column."""
        where = f", row {self.first + row:,}" if row is not None else ""
        raise ValueError(f"{self.path}, row group {self.group}{where}, column {column}: expected {expected}")


def id_kind(dtype: Any) -> str | None:
    """Whether ids of an Arrow type are "integer" or "text"; None for what cannot be ids."""
    import pyarrow as pa

    types = pa.types
    if types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype):
        return None if types.is_nested(dtype.value_type) else id_kind(dtype.value_type)
    if types.is_dictionary(dtype):
        return id_kind(dtype.value_type)
    if types.is_integer(dtype) or types.is_boolean(dtype) or types.is_null(dtype):
        return "integer"
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_string_view)
    return "text" if any(test(dtype) for test in texts) else None


def expected_ids(found: Any) -> str:
    """What an error says of an Arrow type that holds no ids."""
    floats = any(word in str(found) for word in ("float", "double", "decimal"))
    lost = "; ids that were floats have lost digits: write them as int64 or as text" if floats else ""
    return f"integers or texts, or lists of them, as ids, found {found}{lost}"


def id_bags(array: Any, column: str, place: Place) -> Bags:
    """Ids of N rows. Raises ValueError for ids that are floats, or nulls inside lists."""
    if id_kind(array.type) is None:
        place.refuse(None, column, expected_ids(array.type))
    values, lengths = _flat(array)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if values.null_count:
        row = _row_of(offsets, _first(values.is_null()))
        place.refuse(row, column, "an id in every entry of the list, found null")
    return _as_int64(values), offsets


def _flat(array: Any) -> tuple[Any, np.ndarray]:
    """The values of all rows in one Arrow array, and how many each row has; a row that is null has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        return array.flatten(), lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_null(array.type):
        return pa.array([], pa.int64()), np.zeros(len(array), dtype=np.int64)
    return array.drop_null(), array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)


def _as_int64(values: Any) -> np.ndarray:
    """Integers as they are (unsigned 64-bit ones keep their bits), texts hashed; each entry of a dictionary once."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        return _as_int64(values.dictionary)[values.indices.to_numpy(zero_copy_only=False)]
    if id_kind(values.type) == "text":
        return hash_texts(values)
    if pa.types.is_null(values.type):
        return np.empty(0, dtype=np.int64)
    held = values.to_numpy(zero_copy_only=False)
    return held.view(np.int64) if held.dtype == np.uint64 else held.astype(np.int64)


def _first(mask: Any) -> int:
    """The place of the first true value of an Arrow or numpy mask."""
    held = mask if isinstance(mask, np.ndarray) else mask.to_numpy(zero_copy_only=False)
    return int(np.argmax(held))


def _row_of(offsets: np.ndarray, place: int) -> int:
    """The row that holds the value at a place."""
    return int(np.searchsorted(offsets, place, side="right")) - 1


def _one_each(array: Any, column: str, place: Place, expected: str) -> np.ndarray:
    """float64 (N,), NaN where a row has no value. ValueError for other types, two values, NaN and infinities."""
    import pyarrow as pa

    values, lengths = _flat(array)
    types = pa.types
    if not (types.is_integer(values.type) or types.is_floating(values.type) or types.is_boolean(values.type)):
        place.refuse(None, column, f"{expected}, found {array.type}")
    if (lengths > 1).any():
        row = _first(lengths > 1)
        place.refuse(row, column, f"{expected}, at most one a row, found {lengths[row]}")
    held = values.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
    present = np.flatnonzero(lengths)[values.is_valid().to_numpy(zero_copy_only=False)]
    if not np.isfinite(held).all():
        bad = _first(~np.isfinite(held))
        place.refuse(int(present[bad]), column, f"{expected}, found {held[bad]}; what is missing is null")
    column_values = np.full(len(array), np.nan)
    column_values[present] = held
    return column_values


def number_column(array: Any, column: str, place: Place) -> np.ndarray:
    """float32 (N,), NaN where it is missing. ValueError for NaN and infinities in the file, and beyond float32."""
    values = _one_each(array, column, place, "a finite number")
    too_large = np.abs(values) > np.finfo(np.float32).max
    if too_large.any():
        row = _first(too_large)
        place.refuse(row, column, f"a number below 3.4e38, found {values[row]:g}")
    return values.astype(np.float32)


def text_column(array: Any, column: str, place: Place) -> Any:
    """An Arrow array of texts (N,) without blanks around them. ValueError for other types, nulls and empty texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    held = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    if id_kind(held.type) is None or pa.types.is_nested(held.type):
        place.refuse(None, column, f"texts or integers, found {array.type}")
    texts = pc.utf8_trim_whitespace(held.cast(pa.string()))
    empty = pc.fill_null(pc.equal(texts, ""), True)
    if pc.any(empty).as_py():
        place.refuse(_first(empty), column, "a text, found nothing")
    return texts


def position_column(array: Any, column: str, place: Place) -> np.ndarray:
    """Places of a page (N,) int32. ValueError for anything but whole numbers from 1 to a million."""
    values = _one_each(array, column, place, "a whole number from 1")
    wrong = ~((values >= 1) & (values <= MOST_POSITION) & (values % 1 == 0))
    if wrong.any():
        row = _first(wrong)
        found = "nothing" if np.isnan(values[row]) else f"{values[row]:g}"
        place.refuse(row, column, f"a whole number from 1, found {found}")
    return values.astype(np.int32)


def label_column(array: Any, column: str, place: Place) -> np.ndarray:
    """float32 (N,) of 0 and 1. ValueError for anything else and for a missing label."""
    values = _one_each(array, column, place, "a label that is 0 or 1")
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        row = _first(wrong)
        found = "nothing" if np.isnan(values[row]) else f"{values[row]:g}"
        place.refuse(row, column, f"a label that is 0 or 1, found {found}")
    return values.astype(np.float32)


def time_column(array: Any, column: str, place: Place, unit: TimeUnit) -> np.ndarray:
    """Microseconds since 1970 (UTC), int64 (N,). ValueError where one is missing, negative or after the year 2100."""
    import pyarrow as pa

    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        array, unit = array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False).cast(pa.int64()), "us"
    if array.null_count:
        place.refuse(_first(array.is_null()), column, "a time, found nothing")
    if pa.types.is_integer(array.type):
        held = array.to_numpy(zero_copy_only=False).astype(np.int64)
        factor = MICROSECONDS[unit]
        far = (held < 0) | (held > LATEST / factor)
        times = np.where(far, 0, held) * int(factor) if factor >= 1 else held // 1000
    else:
        held = _one_each(array, column, place, "a timestamp, or a number")
        far = (held < 0) | (held > LATEST / MICROSECONDS[unit])
        times = np.where(far, 0, held * MICROSECONDS[unit]).round().astype(np.int64)
    if far.any():
        row = _first(far)
        unit_word = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
        place.refuse(
            row, column, f"{unit_word} since 1970, before the year 2100, found {held[row]}; time_unit says the unit"
        )
    return times


class Clock:
    """Refuses a time that lies more than `slack` seconds before an earlier row's of the same row group."""

    def __init__(self, slack: float) -> None:
        self._slack, self._latest = round(slack * 1e6), -1

    def check(self, times: np.ndarray, column: str, place: Place) -> None:
        """times: int64 (N,), the rows after those that were seen."""
        latest = np.maximum.accumulate(np.concatenate([[self._latest], times]))
        back = times < latest[:-1] - self._slack
        if back.any():
            row = _first(back)
            gap = (latest[row] - times[row]) / 1e6
            place.refuse(row, column, f"a time not before that of an earlier row, found one {gap:,.3f} s before; "
                         "sort the file, or allow it with clock_slack (seconds)")  # fmt: skip
        self._latest = int(latest[-1])
