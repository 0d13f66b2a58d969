"""JSON in and out: the only place that reads or writes it, so that what is written is JSON and what is read is clear.

Python's own module reads NaN, keeps the last of two equal keys, fails with RecursionError on deep nesting, and writes
NaN, which other programs refuse.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goodrate.text_file import read_text

MAX_DEPTH = 100
MAX_DIGITS = 40  # of a whole number: identifiers are shorter
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # an escape that may be half of a surrogate pair
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)


class _Refused(ValueError):
    """Valid to Python's reader, not to this one."""


def parse(text: str, where: str | Path = "") -> Any:
    """The value of a JSON text. where: the file and row that a message begins with.

    Raises ValueError for what is no JSON, and for NaN, infinities, equal keys in one object, more than MAX_DEPTH
    levels, whole numbers of more than MAX_DIGITS digits and halves of surrogate pairs.
    >>> parse('{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    >>> parse('{"a": 1, "a": 2}', "items.jsonl, row 3")
    Traceback (most recent call last):
    ValueError: items.jsonl, row 3: not valid JSON: key 'a' occurs twice in one object
    """
    try:
        _check_depth(text)
        value = _DECODER.decode(text)
        if _HALF_CHARACTER.search(text):
            _check_characters(value)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if "\n" in text.strip() else ""
        reason = f"{error.msg} ({place}character {error.colno})"
    except (_Refused, RecursionError) as error:
        reason = str(error)
    else:
        return value
    raise ValueError(f"{where}: not valid JSON: {reason}" if where else f"not valid JSON: {reason}")


def read(path: str | Path) -> Any:
    """The value of a JSON file. Raises OSError, and ValueError naming the file and what is wrong in it."""
    return parse(read_text(path), path)


def read_object(path: str | Path) -> dict[str, Any]:
    """The JSON object of a file. Raises as read, and ValueError for any other value."""
    value = read(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected a JSON object, found {kind(value)}")
    return value


def kind(value: Any) -> str:
    """What a JSON value is, in words.

    >>> kind([1]), kind(None), kind(True)
    ('a list', 'null', 'true')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return "a list"
    return "an object" if isinstance(value, Mapping) else "a text" if isinstance(value, str) else "a number"


def dumps(value: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """JSON with letters as they are; what is no finite number becomes null, because JSON has no word for it.

    >>> dumps({"ndcg": float("nan"), "name": "café"})
    '{"ndcg": null, "name": "café"}'
    """
    options: dict[str, Any] = {"ensure_ascii": False, "indent": indent, "sort_keys": sort_keys, "allow_nan": False}
    try:
        return json.dumps(value, **options)
    except ValueError:
        return json.dumps(_finite(value), **options)


def compact(value: Any) -> str:
    """JSON without spaces: the form that attributes have in a catalogue (catalog.rendering).

    Raises ValueError for NaN and infinities.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    """The value with None for each number that is not finite."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(f"key {next(name for name in value if names.count(name) > 1)!r} occurs twice in one object")
    return value


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refused(f"a whole number of {len(digits):,} digits; expected at most {MAX_DIGITS}")
    return int(digits)


def _decimal(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Refused(f"the number {digits[:40]} is too large")
    return value


def _constant(word: str) -> float:
    raise _Refused(f"{word}; JSON has no such number, expected null")


def _check_depth(text: str) -> None:
    """Levels are counted in the text, since Python's reader gives up at a depth that hangs on its caller's."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise _Refused(f"more than {MAX_DEPTH} levels of lists and objects in one another")


def _check_characters(value: Any) -> None:
    """A lone half of a surrogate pair is no character: nothing can write it as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise _Refused("half of a surrogate pair, expected whole characters") from error


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_float=_decimal, parse_constant=_constant)
