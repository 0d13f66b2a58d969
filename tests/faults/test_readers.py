"""Broken files of every kind: a value or a refusal that names the file, never a traceback of another kind or a hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import PIECES, READERS, broken, fault_of

EXAMPLES = 8  # of each reader; `make faults` tries thousands (fuzz.py)
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(PIECES) | st.binary(max_size=12)), max_size=6
)


@pytest.mark.parametrize("name", READERS)
def test_the_sound_file_is_read(name: str, tmp_path: Path) -> None:
    file, make, read = READERS[name]
    (tmp_path / file).write_bytes(make())
    assert read(tmp_path / file) is not None


@pytest.mark.parametrize("name", READERS)
def test_a_broken_file_is_read_or_refused_by_name(name: str, tmp_path: Path) -> None:
    data = READERS[name][1]()

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
              suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
    @given(EDITS)
    def tried(edits: list[tuple[float, int, bytes]]) -> None:
        begun = time.process_time()
        assert fault_of(name, tmp_path, broken(data, edits)) is None
        assert time.process_time() - begun < 5

    tried()


# What fuzzing found: each was a traceback or an unnamed error.
FOUND: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("parquet", lambda data: data[:81] + b"\x7f" + data[81:]),
    ("query log", lambda data: b"\n" + data),
    ("csv", lambda data: b"\r\n" + data),
]


@pytest.mark.parametrize(("name", "change"), FOUND, ids=range(len(FOUND)))
def test_what_was_found_is_refused_by_name(name: str, change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    assert fault_of(name, tmp_path, change(READERS[name][1]())) is None
