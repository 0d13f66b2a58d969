"""The overrides that hold for a judge's folder: overrides.toml, changed one at a time, and its log overrides.jsonl."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.folder_lock import one_writer
from goodrate.relevance.entity_judge import OVERRIDES_FILE, EntityJudge
from goodrate.relevance.overrides import NONE, Override, Overrides, parse_overrides, read_overrides
from goodrate.run_folder import write_atomic
from goodrate.settings import toml_of
from goodrate.strict_json import dumps
from goodrate.text_file import read_text

if TYPE_CHECKING:
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.override_effect import Effect

LOG_FILE = "overrides.jsonl"
WAIT_S = 10.0  # for another writer
TABLE = re.compile(r"(?m)(?:^[ \t]*#.*\n)*^[ \t]*\[\[[ \t]*override[ \t]*\]\]")  # with the comment right above it
log = logging.getLogger(__name__)


class OverridesChanged(ValueError):
    """Somebody else has saved overrides since they were read."""


class UnknownOverride(LookupError):
    """An id that no override has."""


def override_id(one: Override) -> str:
    """12 hex digits of what an override says, its note included: the same in every process and after every restart."""
    content = dumps(one.model_dump(exclude_none=True), sort_keys=True)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


class OverrideFile:
    """Both files of a judge's folder. For many threads and processes: writers wait for each other.

    A line of the log is written before the change: a killed process can leave a line of what was not saved, never a
    change without a line.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / OVERRIDES_FILE

    def read(self) -> Overrides:
        """What holds. Raises ValueError for a file that is broken."""
        return read_overrides(self.path) if self.path.is_file() else NONE

    def lines(self, most: int | None = None) -> list[dict[str, Any]]:
        """The log, the newest line first: when ("saved"), who ("by"), what ("did"), what it changed ("effect")."""
        kept = self.folder / LOG_FILE
        found = kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else []
        return [json.loads(line) for line in reversed(found[-most:] if most else found)]

    def replace(self, text: str, by: str, effect: Effect | None = None) -> Overrides:
        """Put a whole file in the place of what was there, as it is written. Raises ValueError for a broken one."""
        rules = parse_overrides(text, str(self.path))
        with one_writer(self.folder, WAIT_S):
            self._save(text, rules, by, effect, "replaced", None)
        return rules

    def add(self, before: Overrides, one: Override, by: str, effect: Effect | None = None, **more: Any) -> Overrides:
        """Add an override behind those that hold. before: what was read. more: for the log.

        Raises ValueError for one that is there already, OverridesChanged when the file is another than `before`.
        """
        if override_id(one) in map(override_id, before.override):
            raise ValueError("this override is there already")
        after = Overrides(override=(*before.override, one))
        with self._unchanged(before):
            text = read_text(self.path).rstrip("\n") + "\n\n" if before.override else ""
            self._save(_whole(text + _table(one), after), after, by, effect, "added", one, more)
        return after

    def remove(self, before: Overrides, key: str, by: str, effect: Effect | None = None, **more: Any) -> Overrides:
        """Take away the override with this id. Raises UnknownOverride, and OverridesChanged as `add`."""
        place = place_of(before, key)
        after = without(before, key)
        with self._unchanged(before):
            text = _cut(read_text(self.path), place)
            self._save(_whole(text, after), after, by, effect, "removed", before.override[place], more)
        return after

    @contextlib.contextmanager
    def _unchanged(self, before: Overrides) -> Iterator[None]:
        """The lock of the folder, where the file is what was read."""
        with one_writer(self.folder, WAIT_S):
            if self.read() != before:
                raise OverridesChanged("somebody else has saved overrides meanwhile: look at the list, and do it again")
            yield

    def _save(
        self, text: str, rules: Overrides, by: str, effect: Effect | None, did: str, one: Override | None,
        more: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        kept = self.folder / LOG_FILE
        line = {
            "saved": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "by": by, "did": did, **(more or {}),
            "override": one.model_dump(exclude_none=True) if one else None,
            "effect": asdict(effect) if effect else None,
            "overrides": [each.model_dump(exclude_none=True) for each in rules.override],
        }  # fmt: skip
        before = kept.read_text(encoding="utf-8") if kept.is_file() else ""
        write_atomic(kept, before + json.dumps(line, ensure_ascii=False) + "\n")
        write_atomic(self.path, text)


def place_of(rules: Overrides, key: str) -> int:
    """The place of the override with this id. Raises UnknownOverride."""
    for place, one in enumerate(rules.override):
        if override_id(one) == key:
            return place
    raise UnknownOverride(f"no override has the id {key!r}; GET /overrides lists them")


def without(rules: Overrides, key: str) -> Overrides:
    """The overrides but the one with this id. Raises UnknownOverride."""
    place = place_of(rules, key)
    return Overrides(override=rules.override[:place] + rules.override[place + 1 :])


def with_saved_overrides(judge: CalibratedJudge) -> CalibratedJudge:
    """The judge with what its folder's file says now; as it is where it is of another kind.

    A file that is broken changes nothing, and is told of in the log.
    """
    if judge.folder is None or not isinstance(judge.inner, EntityJudge):
        return judge
    try:
        rules = OverrideFile(judge.folder).read()
    except (ValueError, OSError) as error:
        log.warning("the overrides are as they were: %s", error)
        return judge
    return judge if rules == judge.inner.overrides else replace(judge, inner=judge.inner.overruled(rules))


def _table(one: Override) -> str:
    values = one.model_dump(exclude_none=True)
    return f"[[override]]\n{toml_of({name: values[name] for name in values if values[name] != ''})}\n"


def _cut(text: str, place: int) -> str:
    """The text without its table of that place; as it is where it has no such one."""
    starts = [found.start() for found in TABLE.finditer(text)]
    if place >= len(starts):
        return text
    end = starts[place + 1] if place + 1 < len(starts) else len(text)
    return (text[: starts[place]] + text[end:]).rstrip("\n") + "\n"


def _whole(text: str, rules: Overrides) -> str:
    """The text, with its comments, where it says these rules; else the rules alone."""
    try:
        if parse_overrides(text, "") == rules:
            return text
    except ValueError:
        pass
    return "\n".join(map(_table, rules.override))
