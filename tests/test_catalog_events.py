"""Events as a stream: every row once for any number of workers, resumable to the row, and what is wrong is named."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.catalog.event_columns import EventColumns
from goodrate.catalog.event_plan import merged
from goodrate.catalog.events import EventBatch, EventStream, joined
from goodrate.catalog.read_ahead import ReadAhead
from goodrate.catalog.text_hash import hash_texts

COLUMNS = EventColumns(ids=("item", "seen"), numbers=("price",), label="clicked", time="time")
ROWS = 10  # of a row group


def table(first: int, rows: int) -> pa.Table:
    """Events numbered first, first + 1, ...: the number is in the item, the first of seen, the price and the time."""
    n = np.arange(first, first + rows)
    return pa.table(
        {
            "item": pa.array([f"sku-{i}" for i in n]),
            "seen": pa.array([[int(i), -1, 2**62] if i % 3 else [] for i in n], pa.list_(pa.int64())),
            "price": pa.array([None if i % 5 == 0 else i / 2 for i in n], pa.float64()),
            "clicked": pa.array((n % 2).astype(float).tolist()),
            "time": pa.array(1_700_000_000 + n),
        }
    )


def write_parquet(path: Path, events: pa.Table) -> None:
    pq.write_table(events, path, row_group_size=ROWS)


def write_orc(path: Path, events: pa.Table) -> None:
    orc.write_table(events, path)


def write_arrow(path: Path, events: pa.Table) -> None:
    with pa.ipc.new_file(path, events.schema) as file:
        file.write_table(events, max_chunksize=ROWS)


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "parquet": write_parquet, "orc": write_orc, "arrow": write_arrow, "feather": write_arrow,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """57 events, numbered 0 to 56, in three files of several row groups."""
    for number, (first, rows) in enumerate([(0, 25), (25, 30), (55, 2)]):
        write_parquet(tmp_path / f"part-{number}.parquet", table(first, rows))
    return tmp_path


def numbers(batches: Sequence[EventBatch]) -> list[int]:
    """The numbers of the events, read from their times."""
    return [int(t // 1_000_000 - 1_700_000_000) for batch in batches for t in batch.times]  # type: ignore[union-attr]


def test_a_batch_has_what_the_file_has(folder: Path) -> None:
    batch = joined(list(EventStream(folder, COLUMNS).batches(7)))
    assert numbers([batch]) == list(range(57)) and batch.rows == 57
    values, offsets = batch.ids["seen"]
    # rows 0, 3, 6, ... have none, the others three
    assert np.diff(offsets).tolist() == [3 if i % 3 else 0 for i in range(57)]
    assert values[:6].tolist() == [1, -1, 2**62, 2, -1, 2**62]
    assert batch.ids["item"][0].tolist() == hash_texts(pa.array([f"sku-{i}" for i in range(57)])).tolist()
    assert np.isnan(batch.numbers["price"]).nonzero()[0].tolist() == list(range(0, 57, 5))
    assert batch.numbers["price"][7] == 3.5 and batch.labels[7] == 1.0  # type: ignore[index]


@pytest.mark.parametrize("ending", WRITERS)
def test_all_formats_give_the_same(ending: str, tmp_path: Path) -> None:
    WRITERS[ending](tmp_path / f"events.{ending}", table(0, 43))
    batches = list(EventStream(tmp_path / f"events.{ending}", COLUMNS).batches(8))
    assert numbers(batches) == list(range(43))
    assert [batch.rows for batch in batches] == [8, 8, 8, 8, 8, 3]
    assert joined(batches).ids["seen"][0].tolist() == [v for i in range(43) if i % 3 for v in (i, -1, 2**62)]


def test_an_orc_file_of_several_stripes(tmp_path: Path) -> None:
    count = 40_000
    events = pa.table({"item": pa.array(np.arange(count)), "text": pa.array([f"query {i}" * 5 for i in range(count)])})
    orc.write_table(events, tmp_path / "events.orc", stripe_size=64 * 1024)
    assert orc.ORCFile(tmp_path / "events.orc").nstripes > 2
    stream = EventStream(tmp_path, EventColumns(ids=("item", "text")), workers=2)
    assert len(stream.files.row_groups()) == orc.ORCFile(tmp_path / "events.orc").nstripes
    read = [batch.ids["item"][0] for worker in (0, 1) for batch in
            EventStream(tmp_path, EventColumns(ids=("item", "text")), workers=2).batches(999, worker)]  # fmt: skip
    assert sorted(np.concatenate(read).tolist()) == list(range(count))


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 20])
def test_every_row_once_over_any_number_of_workers(folder: Path, workers: int) -> None:
    """20 workers: more than the 7 row groups, so that some have none."""
    shares = [list(EventStream(folder, COLUMNS, workers=workers).batches(4, w)) for w in range(workers)]
    assert sorted(n for share in shares for n in numbers(share)) == list(range(57))
    rows = [sum(batch.rows for batch in share) for share in shares]
    assert max(rows) - min(rows) <= ROWS  # no worker has a row group more than the one with the fewest


def test_epochs_come_in_other_orders_with_a_seed(folder: Path) -> None:
    plain = numbers(list(EventStream(folder, COLUMNS, epochs=2).batches(5)))
    assert plain == [*range(57), *range(57)]
    mixed = numbers(list(EventStream(folder, COLUMNS, epochs=2, seed=1).batches(5)))
    assert sorted(mixed[:57]) == sorted(mixed[57:]) == list(range(57)) and mixed[:57] != mixed[57:]
    assert mixed == numbers(list(EventStream(folder, COLUMNS, epochs=2, seed=1).batches(9)))


@given(before=st.integers(1, 5), after=st.integers(1, 5), taken=st.lists(st.integers(0, 30), min_size=5, max_size=5))
@settings(max_examples=25, deadline=None)
def test_resumed_to_the_row_with_another_number_of_workers(
    tmp_path_factory: pytest.TempPathFactory, before: int, after: int, taken: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("events")
    for number in range(3):
        write_parquet(folder / f"part-{number}.parquet", table(number * 19, 19))
    states, first = [], []
    for worker in range(before):  # each in its own process, as it were
        stream = EventStream(folder, COLUMNS, workers=before)
        start, stop = stream.plan.take(worker, taken[worker])
        first += numbers([stream.read(worker, start, stop)]) if stop > start else []
        states.append(stream.state_dict())
        stream.close()
    rest = []
    for worker in range(after):
        stream = EventStream(folder, COLUMNS, workers=after)
        stream.load_state_dict(merged(states))
        rest += numbers(list(stream.batches(6, worker)))
    assert sorted(first + rest) == list(range(57))


def test_a_state_goes_on_in_the_same_order(folder: Path) -> None:
    whole = numbers(list(EventStream(folder, COLUMNS, epochs=3, seed=4).batches(8)))
    stream, read = EventStream(folder, COLUMNS, epochs=3, seed=4), []
    batches = stream.batches(8)
    for _ in range(11):
        read += numbers([next(batches)])
    state = stream.state_dict()
    other = EventStream(folder, COLUMNS, epochs=3, seed=4)
    other.load_state_dict(state)
    assert read + numbers(list(other.batches(8))) == whole
    assert state["epoch"] == 1 and len(state["finished"]) > 0


def test_the_state_of_another_epoch_is_refused(folder: Path) -> None:
    one, two = (EventStream(folder, COLUMNS, workers=2, epochs=2) for _ in range(2))
    list(two.batches(50, 1))
    with pytest.raises(ValueError, match=r"of one epoch.*epochs \[0, 1\]"):
        merged([one.state_dict(), two.state_dict()])


def test_a_state_whose_file_is_gone_or_changed_is_refused(folder: Path) -> None:
    stream = EventStream(folder, COLUMNS)
    next(stream.batches(30))
    state = stream.state_dict()
    write_parquet(folder / "part-1.parquet", table(0, 4))
    with pytest.raises(ValueError, match="row group 0 of part-1.parquet had 10 rows, and now it has 4 rows"):
        EventStream(folder, COLUMNS).load_state_dict(state)
    (folder / "part-1.parquet").unlink()
    with pytest.raises(ValueError, match="part-1.parquet had 10 rows, and now it is not there; put the file back"):
        EventStream([folder / "part-0.parquet", folder / "part-2.parquet"], COLUMNS).load_state_dict(state)


def test_a_growing_folder_is_followed_and_its_position_kept(tmp_path: Path) -> None:
    def stream() -> EventStream:
        return EventStream(tmp_path, COLUMNS, follow=0.0)

    first = stream()
    assert list(first.batches(10)) == []  # an empty folder has nothing yet
    write_parquet(tmp_path / "a.parquet", table(0, 12))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 in the making")
    (tmp_path / "_c.parquet").write_bytes(b"")
    assert numbers(list(first.batches(10))) == list(range(12))
    state = first.state_dict()
    write_parquet(tmp_path / "b.parquet", table(12, 3))
    write_parquet(tmp_path / "a.parquet", pa.concat_tables([table(0, 10), table(10, 2), table(15, 8)]))
    other = stream()
    with pytest.raises(ValueError, match="a.parquet had 2 rows, and now it has 10 rows"):
        other.load_state_dict(state)  # row group 1 of a was cut at 2 rows: it was rewritten
    (tmp_path / "a.parquet").unlink()  # rotated away
    other.load_state_dict(state)
    assert numbers(list(other.batches(10))) == [12, 13, 14]
    write_parquet(tmp_path / "d.parquet", table(15, 5))
    assert numbers(list(other.batches(10))) == [15, 16, 17, 18, 19]
    assert list(other.batches(10)) == []


def test_a_file_grows_by_row_groups(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", table(0, 20))
    stream = EventStream(tmp_path, COLUMNS, follow=0.0)
    assert numbers(list(stream.batches(100))) == list(range(20))
    write_parquet(tmp_path / "a.parquet", table(0, 34))
    assert numbers(list(stream.batches(100))) == list(range(20, 34))


def test_new_rows_are_waited_for(tmp_path: Path) -> None:
    stream = EventStream(tmp_path, COLUMNS, follow=30.0)
    timer = threading.Timer(0.2, lambda: write_parquet(tmp_path / "late.parquet", table(0, 6)))
    timer.start()
    assert numbers([next(stream.batches(10))]) == list(range(6))
    timer.join()


def changed(column: str, values: Any) -> pa.Table:
    """30 events with another column."""
    events = table(0, 30)
    return events.set_column(events.schema.get_field_index(column), column, values)


def floats(**values: float | None) -> pa.Array:
    """30 times 0.0 but for row r17=..."""
    return pa.array([values.get(f"r{n}", 0.0) for n in range(30)], pa.float64())


T = [1_700_000_000 + n for n in range(30)]
WRONG = {
    "ids are floats": ("item", floats(), "column item: expected integers or texts.*found double.*lost digits"),
    "ids are objects": ("item", pa.array([{"a": 1}] * 30), "column item: expected integers or texts"),
    "a null in a list": ("seen", pa.array([[1]] * 17 + [[2, None]] + [[3]] * 12),
                         "row group 1, row 18, column seen: expected an id in every entry of the list, found null"),
    "a NaN": ("price", floats(r17=float("nan")), "row group 1, row 18, column price: .*finite number, found nan"),
    "an infinity": ("price", floats(r29=float("inf")), "row group 2, row 30, column price: .*finite number, found inf"),
    "beyond float32": ("price", floats(r0=1e300), "row 1, column price: expected a number below 3.4e38"),
    "two numbers": ("price", pa.array([[1.0]] * 29 + [[1.0, 2.0]]), "row 30, column price: .*one a row, found 2"),
    "texts as numbers": ("price", pa.array(["1"] * 30), "column price: expected a finite number, found string"),
    "a label of 2": ("clicked", floats(r17=2.0), "row 18, column clicked: expected a label that is 0 or 1, found 2"),
    "a negative label": ("clicked", floats(r3=-1.0), "row 4, column clicked: .*found -1"),
    "half a label": ("clicked", floats(r3=0.5), "row 4, column clicked: .*found 0.5"),
    "no label": ("clicked", floats(r17=None), "row 18, column clicked: .*found nothing"),
    "no time": ("time", pa.array([*T[:17], None, *T[18:]]), "row 18, column time: expected a time, found nothing"),
    "a negative time": ("time", pa.array([-5, *T[1:]]), "row 1, column time: expected seconds since 1970.*found -5"),
    "milliseconds": ("time", pa.array([t * 1000 for t in T]), "row 1, column time: .*before the year 2100.*time_unit"),
    "clock goes back": ("time", pa.array([*T[:17], T[0], *T[18:]]),
                        r"row 18, column time: .*not before that of an earlier row, found one 16.000 s before"),
    "times as texts": ("time", pa.array(["2026-01-01"] * 30), "column time: expected a timestamp, or a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_file_row_and_column(case: str, tmp_path: Path) -> None:
    column, values, expected = WRONG[case]
    write_parquet(tmp_path / "events.parquet", changed(column, values))
    with pytest.raises(ValueError, match=expected) as error:
        list(EventStream(tmp_path, COLUMNS).batches(64))
    assert str(tmp_path / "events.parquet") in str(error.value)


def test_a_clock_may_go_back_where_it_is_allowed(tmp_path: Path) -> None:
    write_parquet(tmp_path / "events.parquet", changed("time", pa.array([*T[:17], T[0], *T[18:]])))
    assert sum(batch.rows for batch in EventStream(tmp_path, COLUMNS, clock_slack=16).batches(9)) == 30


def test_times_are_microseconds_whatever_they_were(tmp_path: Path) -> None:
    moment = 1_700_000_000_123_456
    columns: dict[str, tuple[Any, Any]] = {
        "s": (pa.array([moment / 1e6]), "s"), "ms": (pa.array([moment // 1000]), "ms"),
        "ns": (pa.array([moment * 1000]), "ns"), "stamp": (pa.array([moment], pa.timestamp("us", "UTC")), "s"),
    }  # fmt: skip
    for name, (values, unit) in columns.items():
        write_parquet(tmp_path / f"{name}.parquet", pa.table({"time": values}))
        stream = EventStream(tmp_path / f"{name}.parquet", EventColumns(time="time", time_unit=unit))
        exact = moment // 1000 * 1000 if name == "ms" else moment
        assert next(stream.batches(1)).times.tolist() == [exact]  # type: ignore[union-attr]


def test_a_shard_that_is_missing_is_told(folder: Path) -> None:
    (folder / "part-1.parquet").unlink()
    write_parquet(folder / "part-3.parquet", table(60, 2))
    with pytest.raises(ValueError, match=r"part-1.parquet is missing, 3 files of its row are there"):
        EventStream(folder, COLUMNS)
    assert EventStream(sorted(folder.glob("*.parquet")), COLUMNS).plan.left(0) == 29
    for path in folder.glob("*.parquet"):
        path.rename(folder / path.name.replace("part-", "part-0000").replace(".parquet", "-of-00004.parquet"))
    with pytest.raises(ValueError, match=r"part-00001-of-00004.parquet is missing"):
        EventStream(folder, COLUMNS)


def test_numbers_that_are_dates_may_have_gaps(folder: Path) -> None:
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        path.rename(folder / f"events-2026-11-0{number * 2 + 1}.parquet")
    assert EventStream(folder, COLUMNS).plan.left(0) == 57


def test_a_shard_that_is_cut_is_told(folder: Path) -> None:
    whole = (folder / "part-1.parquet").read_bytes()
    (folder / "part-1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"part-1.parquet: not a whole .parquet file .*cut off or broken"):
        EventStream(folder, COLUMNS)


def test_a_row_group_that_is_broken_is_told_and_nothing_before_it_is_lost(folder: Path) -> None:
    data = bytearray((folder / "part-1.parquet").read_bytes())
    group = pq.ParquetFile(folder / "part-1.parquet").metadata.row_group(1)
    start = group.column(0).dictionary_page_offset or group.column(0).data_page_offset
    data[start : start + 40] = b"\xff" * 40
    (folder / "part-1.parquet").write_bytes(bytes(data))
    stream, read = EventStream(folder, COLUMNS), []
    with pytest.raises(ValueError, match=r"part-1.parquet, row group 1: not a whole .parquet file"):
        for batch in stream.batches(5):
            read.append(batch)
    assert numbers(read) == list(range(35))  # 25 rows of part-0 and the 10 of row group 0


def test_a_file_that_goes_away_while_reading_is_told(folder: Path) -> None:
    stream = EventStream(folder, COLUMNS)
    (folder / "part-2.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="part-2.parquet; it was there when the reading began"):
        list(stream.batches(100))


def test_what_cannot_be_events_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such event file"):
        EventStream(tmp_path / "none.parquet", COLUMNS)
    with pytest.raises(ValueError, match="has no column 'sku'; columns: item, seen"):
        EventStream(folder, EventColumns(ids=("sku",)))
    with pytest.raises(ValueError, match="'item' is named twice"):
        EventColumns(ids=("item",), label="item")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=re.escape("cannot read '.txt' as events; expected .parquet, .pq, .orc")):
        EventStream(tmp_path / "notes.txt", COLUMNS)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="has no event file"):
        EventStream(empty, COLUMNS)
    write_parquet(empty / "a.parquet", table(0, 0))
    with pytest.raises(ValueError, match="has no rows"):
        EventStream(empty, COLUMNS)


def test_ids_of_two_kinds_in_two_files_are_refused(folder: Path) -> None:
    events = table(60, 5)
    write_parquet(folder / "part-3.parquet", events.set_column(0, "item", pa.array(range(5))))
    with pytest.raises(ValueError, match=r"part-3.parquet, column item: ids are integers, and texts in part-0.parquet"):
        EventStream(folder, COLUMNS)


def test_dictionaries_unsigned_ids_and_views_are_read(tmp_path: Path) -> None:
    texts = pa.array(["b", "a", None, "b"])
    events = pa.table({"code": texts.dictionary_encode(), "big": pa.array([2**64 - 1, 0, None, 7], pa.uint64())})
    write_parquet(tmp_path / "events.parquet", events)
    batch = next(EventStream(tmp_path, EventColumns(ids=("code", "big"))).batches(9))
    assert batch.ids["code"][0].tolist() == hash_texts(pa.array(["b", "a", "b"])).tolist()
    assert batch.ids["code"][1].tolist() == [0, 1, 2, 2, 3]
    assert batch.ids["big"][0].tolist() == [-1, 0, 7]  # the bits of 2^64 - 1


def reference_hash(text: bytes) -> int:
    """text_hash's formula with Python's integers."""
    whole = 2**64 - 1

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & whole
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & whole
        return x ^ (x >> 31)

    h = mix((0x9E3779B97F4A7C15 + 0xD6E8FEB86659FD93 * len(text)) & whole)
    for start in range(0, len(text), 8):
        h = mix(h ^ int.from_bytes(text[start : start + 8].ljust(8, b"\0"), "little"))
    return h - 2**64 if h >= 2**63 else h


def test_texts_and_places_are_read_as_they_are(tmp_path: Path) -> None:
    events = pa.table({
        "query": pa.array([" lamp", "desk lamp", "lamp"]).dictionary_encode(), "item": pa.array([7, 8, 2**40]),
        "place": pa.array([1.0, 2.0, 30.0]), "clicked": pa.array([True, False, False]),
    })  # fmt: skip
    pq.write_table(events, tmp_path / "a.parquet", row_group_size=2)
    columns = EventColumns(texts=("query", "item"), position="place", label="clicked")
    (batch,) = EventStream(tmp_path, columns).batches(9)
    assert batch.texts["query"].to_pylist() == ["lamp", "desk lamp", "lamp"]
    assert batch.texts["item"].to_pylist() == ["7", "8", str(2**40)]
    assert batch.positions is not None and batch.positions.tolist() == [1, 2, 30]
    part = batch.part(1, 3)
    assert part.texts["query"].to_pylist() == ["desk lamp", "lamp"] and part.positions.tolist() == [2, 30]
    assert [one.rows for one in EventStream(tmp_path, columns).newest()] == [1, 2]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("query", ["lamp", " ", "desk"], r"row 2, column query: expected a text, found nothing"),
        ("query", ["lamp", None, "desk"], r"row 2, column query: expected a text, found nothing"),
        ("query", [0.5, 1.0, 2.0], r"row group 0, column query: expected texts or integers, found double"),
        ("place", [1, 0, 2], r"row 2, column place: expected a whole number from 1, found 0"),
        ("place", [1.0, 2.0, 2.5], r"row 3, column place: expected a whole number from 1, found 2\.5"),
        ("place", [1, None, 2], r"row 2, column place: expected a whole number from 1, found nothing"),
    ],
)
def test_a_wrong_text_or_place_is_named(column: str, values: list[Any], message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["a", "b", "c"], "place": [1, 2, 3], column: values}), tmp_path / "a.parquet")
    columns = EventColumns(texts=("query",), position="place")
    with pytest.raises(ValueError, match=message):
        list(EventStream(tmp_path, columns).batches(9))


def test_rows_taken_are_counted_over_resumptions(folder: Path) -> None:
    stream = EventStream(folder, COLUMNS, workers=2)
    for worker, rows in ((0, 13), (1, 4), (0, 9)):
        stream.plan.take(worker, rows)
    assert stream.plan.rows_taken == 26
    again = EventStream(folder, COLUMNS, workers=3)
    again.load_state_dict(stream.state_dict())
    again.plan.take(1, 5)
    assert again.plan.rows_taken == 31


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_texts_are_hashed_by_the_formula(texts: list[str], start: int) -> None:
    held = pa.array(texts, pa.string())[start:]
    assert hash_texts(held).tolist() == [reference_hash(t.encode()) for t in texts[start:]]


def test_the_hash_of_a_text_never_changes() -> None:
    assert hash_texts(pa.array(["lamp", ""])).tolist() == [reference_hash(b"lamp"), reference_hash(b"")]
    assert hash_texts(pa.array(["lamp"])).tolist() == [2841836624094774926]
    assert hash_texts(pa.array(["lamp"], pa.large_string())).tolist() == [2841836624094774926]
    many = hash_texts(pa.array([f"item {n}" for n in range(200_000)]))
    assert len(np.unique(many)) == 200_000
    assert len(np.unique(many % 2**20)) == pytest.approx(2**20 * (1 - np.exp(-200_000 / 2**20)), rel=0.01)


def test_the_thread_that_reads_ahead_ends_with_its_user(folder: Path) -> None:
    def alive() -> int:
        return sum(thread.name == "read ahead" for thread in threading.enumerate())

    before = alive()
    endless = ReadAhead(iter(int, 1), depth=1)
    next(endless)
    assert alive() == before + 1
    del endless
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "read ahead":
            thread.join(5)
    assert alive() <= before


def test_an_error_comes_after_what_was_read_before_it() -> None:
    def items() -> Any:
        yield 1
        raise ValueError("broken")

    ahead = ReadAhead(items())
    assert next(ahead) == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            next(ahead)
