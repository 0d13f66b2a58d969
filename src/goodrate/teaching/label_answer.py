"""The label in what a language model answers: read leniently where it is clear, refused where it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from goodrate.scale import RelevanceScale
from goodrate.teaching.asking import Outcome
from goodrate.teaching.bare_answer import bare_answer
from goodrate.teaching.chat_endpoint import Answer

UNREADABLE, SEVERAL, OFF_SCALE = "unreadable", "several_labels", "off_scale"
REASON_CHARACTERS = 500
KEYS = ("label", "relevance", "grade", "rating")  # models rename what they were told to write
# label: exact / "label" = 'exact' / **Label:** exact, where there is no JSON to read
NAMED = re.compile(rf"(?i)\b(?:{'|'.join(KEYS)})\b[\"'*` ]*[:=][\"'*` ]*([^\"'*`,;}}\n]+)")
MARKS = " \t\n\"'`*_.!()[]{}"


@dataclass(frozen=True)
class Labelled:
    """label: position on the scale, 0 = worst. reason: as the model wrote it, "" for none."""

    label: int
    reason: str = ""


def read_label(answer: Answer, scale: RelevanceScale) -> Outcome[Labelled]:
    """The label and reason of an answer.

    Failures: unreadable (it names no label), several_labels (it names different ones), off_scale.
    """
    bare = bare_answer(answer.text)
    objects = [found for found in _objects(bare) if _named(found) is not None]
    if objects:
        return _agreed([_named(found) for found in objects], scale, _reason(objects[-1]))
    named = NAMED.findall(bare)
    if named:
        return _agreed(named, scale, "")
    label = _position(bare, scale)
    return Outcome(None, UNREADABLE) if label is None else Outcome(Labelled(label))


def _agreed(values: list[Any], scale: RelevanceScale, reason: str) -> Outcome[Labelled]:
    """The one label that all values are."""
    labels = {_position(value, scale) for value in values}
    if None in labels:
        return Outcome(None, OFF_SCALE)
    if len(labels) > 1:
        return Outcome(None, SEVERAL)
    label = labels.pop()
    assert label is not None
    return Outcome(Labelled(label, reason))


def _position(value: Any, scale: RelevanceScale) -> int | None:
    """The place of a label, an alias, or a text such as "3 (exact)" whose parts are labels; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    text = str(value).strip(MARKS)
    if text in scale:
        return scale.index(text)
    parts = [part.strip(MARKS) for part in re.split(r"[(:=/]| - ", text) if part.strip(MARKS)]
    places = {scale.index(part) if part in scale else None for part in parts}
    return places.pop() if len(places) == 1 else None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, those inside others left out."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        if isinstance(found, dict):
            yield found
        start = text.find("{", end)


def _named(found: dict[str, Any]) -> Any:
    """What an object has under the first of KEYS, in any case; None without one."""
    lower = {str(key).lower(): value for key, value in found.items()}
    return next((lower[key] for key in KEYS if lower.get(key) is not None), None)


def _reason(found: dict[str, Any]) -> str:
    """The reason in one line."""
    value = next((value for key, value in found.items() if str(key).lower() in ("reason", "explanation", "why")), "")
    return " ".join(value.split())[:REASON_CHARACTERS] if isinstance(value, str) else ""
