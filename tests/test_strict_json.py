"""JSON in and out: what is refused, with its place, and that what is written can be read by any program."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goodrate import strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab\u00e9\U0001f600"), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert strict_json.parse(strict_json.dumps(value)) == value
    assert strict_json.parse(strict_json.compact(value)) == value
    assert strict_json.parse(json.dumps(value)) == value  # with \u escapes, surrogate pairs among them


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "key 'c' occurs twice in one object"),
        ("[NaN]", "NaN; JSON has no such number"),
        ("-Infinity", "-Infinity; JSON has no such number"),
        ("[1e400]", "the number 1e400 is too large"),
        ("1" * 41, "a whole number of 41 digits; expected at most 40"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ('{"a":' * 5000, "more than 100 levels"),
        (r'"\ud83d"', "half of a surrogate pair"),
        ('{"a": 1,\n "b": }', "Expecting value (line 2, character 7)"),
        ("", "Expecting value (character 1)"),
        ("1 2", "Extra data (character 3)"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        strict_json.parse(text, "items.jsonl, row 7")
    assert str(caught.value).startswith("items.jsonl, row 7: not valid JSON: ") and message in str(caught.value)


def test_brackets_inside_texts_are_no_levels() -> None:
    assert strict_json.parse('"' + "[" * 500 + '"') == "[" * 500
    assert strict_json.parse(json.dumps(["\\" * 3 + '"' + "{" * 200])) == ["\\" * 3 + '"' + "{" * 200]
    assert strict_json.parse("[" + "[]," * 500 + "[]]") == [[]] * 501
    assert strict_json.parse("[" * 100 + "]" * 100) is not None


def test_numbers_that_json_lacks_are_written_as_null() -> None:
    record = {"a": math.nan, "b": [1.0, -math.inf, (math.inf,)], "c": "NaN"}
    assert strict_json.dumps(record) == '{"a": null, "b": [1.0, null, [null]], "c": "NaN"}'
    with pytest.raises(ValueError):
        strict_json.compact({"a": math.nan})


def test_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content, message in (
        (b"[]", "expected a JSON object, found a list"),
        (b"{", "not valid JSON: Expecting property name"),
        (b'{"a":\n"\xe9"}', "line 2: byte 0xe9 is not UTF-8"),
        (b"\xff\xfe{\0", "is UTF-16; expected UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError) as caught:
            strict_json.read_object(path)
        assert str(caught.value).startswith(str(path)) and message in str(caught.value)
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert strict_json.read_object(path) == {"a": 1}
