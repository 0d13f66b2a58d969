"""The file of a teacher: one JSON line per pair, with the steps of its reason or the name of what prevented one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from goodrate.catalog.problems import BadRow, tolerate
from goodrate.relevance.rationale import Rationale, Want
from goodrate.scale import RelevanceScale
from goodrate.strict_json import dumps, kind, parse
from goodrate.teaching.teacher import survives_writing
from goodrate.text_file import read_text

STEPS = ("category", "wants", "found_category", "found", "relation", "checks", "rule")


@dataclass(frozen=True)
class TaughtLine:
    """One line. label: a name of the scale, None = the pair had none. teacher: who wrote it; rule_book: its hash.

    item_id: "" when the pair came with a text alone, which then stands in item_text.
    """

    query: str
    item_id: str
    label: str | None
    rationale: Rationale | None
    silver: bool
    teacher: str
    rule_book: str
    failure: str | None = None
    item_text: str = ""


def to_jsonl(lines: Iterable[TaughtLine]) -> str:
    """The content of the file."""
    return "".join(dumps(_record(line)) + "\n" for line in lines)


def _record(line: TaughtLine) -> dict[str, Any]:
    """The line as an object; the label stands once, by name."""
    steps = None if line.rationale is None else {name: getattr(line.rationale, name) for name in STEPS}
    if steps is not None and line.rationale is not None:
        steps["wants"] = [asdict(want) for want in line.rationale.wants]
    item = {"item_id": line.item_id} if line.item_id else {"item_text": line.item_text}
    origin = {"silver": line.silver, "teacher": line.teacher, "rule_book": line.rule_book, "failure": line.failure}
    return {"query": line.query, **item, "label": line.label, "rationale": steps, **origin}


def read_taught(
    path: str | Path, scale: RelevanceScale, skip_bad: int = 0
) -> tuple[list[TaughtLine], tuple[BadRow, ...]]:
    """The lines of a teacher's file, and what was wrong with at most skip_bad others.

    Raises FileNotFoundError, and ValueError with file, row, column, expectation.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; write it with: goodrate teach PAIRS --teacher template --out {path}")
    texts = read_text(path).split("\n")  # splitlines would split at U+2028 inside a text
    lines: list[TaughtLine] = []
    problems: list[BadRow] = []
    for row, text in enumerate(texts, start=1):
        if text.strip():
            try:
                lines.append(_line(text, scale))
            except _BadValue as bad:
                problems.append(BadRow(row, bad.column, bad.expected))
    skipped = tolerate(path, problems, skip_bad)
    if not lines:
        raise ValueError(f"{path} has no usable row")
    return lines, skipped


class _BadValue(Exception):
    """A value that cannot be used; the reader adds the row."""

    def __init__(self, column: str, expected: str) -> None:
        super().__init__(column, expected)
        self.column, self.expected = column, expected


def _line(text: str, scale: RelevanceScale) -> TaughtLine:
    """One line. Raises _BadValue."""
    raw = _object(text)
    for name in ("query", "teacher", "rule_book"):
        if not isinstance(raw.get(name), str):
            raise _BadValue(name, f"a text, found {kind(raw.get(name))}")
    if not isinstance(raw.get("silver"), bool):
        raise _BadValue("silver", f"true or false, found {kind(raw.get('silver'))}")
    for name in ("item_id", "item_text", "failure", "label"):
        if isinstance(raw.get(name), (bool, list, dict)):
            raise _BadValue(name, f"a text or a number, found {kind(raw[name])}")
    label = None if raw.get("label") is None else _position(raw["label"], scale)
    steps = raw.get("rationale")
    return TaughtLine(
        query=raw["query"],
        item_id=str(raw.get("item_id") or ""),
        label=None if label is None else scale.labels[label],
        rationale=None if steps is None else _rationale(steps, label, scale),
        silver=raw["silver"],
        teacher=raw["teacher"],
        rule_book=raw["rule_book"],
        failure=None if raw.get("failure") is None else str(raw["failure"]),
        item_text=str(raw.get("item_text") or ""),
    )


def _object(text: str) -> dict[str, Any]:
    whole = "(the whole row)"
    try:
        raw = parse(text)
    except ValueError as error:
        raise _BadValue(whole, f"a JSON object: {error}") from error
    if not isinstance(raw, dict):
        raise _BadValue(whole, f"a JSON object, found {kind(raw)}")
    return raw


def _position(label: Any, scale: RelevanceScale) -> int:
    try:
        return scale.index(label)
    except ValueError as error:
        raise _BadValue("label", f"a label of the scale; {error}") from error


def _rationale(raw: Any, label: int | None, scale: RelevanceScale) -> Rationale:
    """The steps of a line, such that they can be written and read back."""
    try:
        if label is None:
            raise ValueError("a reason without a label")
        wants = tuple(Want(w["attribute"], w["value"], w["strength"]) for w in raw["wants"])
        steps = {name: raw[name] for name in STEPS} | {"wants": wants}
        steps |= {"found": tuple(raw["found"]), "checks": tuple(raw["checks"])}
        rationale = Rationale(label=label, **steps)
        if survives_writing(rationale, len(scale)):
            return rationale
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise _BadValue("rationale", f"the steps {', '.join(STEPS)} of a labelled pair") from error
    raise _BadValue("rationale", "steps that can be written and read back, one found and one check for each want")
