"""What an editor says against a model: verdicts on entities that hold for some queries, a TOML file.

[[override]]
pattern = '\\b(?:without|no) (?P<what>\\w+)'   # a class: "without X" conflicts with X
contains = "{what}"
verdict = "conflict"
note = "negations"

[[override]]
query = "desk lamp"                           # one query
type = "category"
entity = "desks"
verdict = "conflict"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from goodrate.catalog.normal_form import normal_text
from goodrate.catalog.splits import stems
from goodrate.relevance.entities import MARKERS, WHOLE_ITEM, WHOLE_TEXT, Entity, spelled, spelled_type
from goodrate.settings import parse_toml
from goodrate.text_file import read_text

VERDICTS: dict[str, tuple[float, float]] = {"support": (1.0, 0.0), "conflict": (0.0, 1.0), "neutral": (0.0, 0.0)}
WHOLE = (WHOLE_ITEM, WHOLE_TEXT)
DENIALS = MARKERS - {"for", "with"}


class Override(BaseModel):
    """One verdict for some queries and entities.

    query: one query, or pattern: a regular expression that is found in queries, both in normal form. entity: the whole
    text of an entity, or contains: words that it has, in any number; {name} stands for what the pattern's group of that
    name found. An entity that says itself "without" or "no" does not contain. type: of the entity, any part of an item
    without; a whole item is meant by its type alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    verdict: Literal["support", "conflict", "neutral"]
    query: str | None = Field(None, min_length=1)
    pattern: str | None = Field(None, min_length=1)
    type: str | None = Field(None, min_length=1)
    entity: str | None = Field(None, min_length=1)
    contains: str | None = Field(None, min_length=1)
    note: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.query is None) == (self.pattern is None):
            raise ValueError("give query or pattern, one of them")
        if self.entity is not None and self.contains is not None:
            raise ValueError("give entity or contains, not both")
        if self.entity is None and self.contains is None and self.type is None:
            raise ValueError("say which entities: entity, contains or type")
        if self.pattern is not None:
            self._groups(self.pattern)
        return self

    def _groups(self, pattern: str) -> None:
        """ValueError for a pattern that is none, and for a {name} that it has no group of."""
        try:
            known = set(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from error
        named = set(re.findall(r"\{(\w*)\}", f"{self.entity or ''}{self.contains or ''}"))
        if named - known:
            raise ValueError(f"{{{sorted(named - known)[0]}}} is no group of the pattern; write (?P<name>...) in it")

    def targets(self, query: str) -> list[str]:
        """What `entity` or `contains` is for this query (in normal form), once for each find; [""] for a type alone."""
        wanted = self.entity or self.contains or ""
        if self.query is not None:
            return [wanted] if normal_text(self.query) == query else []
        assert self.pattern is not None
        return [_filled(wanted, match.groupdict()) for match in re.finditer(self.pattern, query)]

    def hits(self, target: str, entity: Entity) -> bool:
        """Whether an entity is meant, for what targets gave."""
        if self.type is not None and spelled_type(self.type) != entity.type:
            return False
        if self.entity is not None:
            return spelled(target) == entity.text
        if self.contains is None:
            return self.type is not None or entity.type not in WHOLE
        if entity.type in WHOLE and self.type is None:
            return False
        return entity.text.split()[0] not in DENIALS and set(stems(target)) <= set(stems(entity.text))


def _filled(text: str, groups: dict[str, Any]) -> str:
    for name, found in groups.items():
        text = text.replace(f"{{{name}}}", found or "")
    return text


class Overrides(BaseModel):
    """All of a file, in order; where several mean one entity the last one holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    override: tuple[Override, ...] = ()

    @cached_property
    def identity(self) -> list[dict[str, Any]]:
        """What decides verdicts, as JSON; notes do not."""
        return [one.model_dump(exclude={"note"}, exclude_none=True) for one in self.override]

    def of(self, query: str, entities: Sequence[Entity]) -> dict[int, Override]:
        """Place of an entity -> the override that holds for it under a query (in any form)."""
        normal = normal_text(query)
        found: dict[int, Override] = {}
        for one in self.override:
            for target in one.targets(normal):
                found.update({at: one for at, entity in enumerate(entities) if one.hits(target, entity)})
        return found

    def applied(self, query: str, entities: Sequence[Entity], verdicts: np.ndarray) -> np.ndarray:
        """Verdicts (N, 2) of the entities with what the editor says of them."""
        overruled = verdicts.copy()
        for at, one in self.of(query, entities).items():
            overruled[at] = VERDICTS[one.verdict]
        return overruled


NONE = Overrides()


def read_overrides(path: str | Path) -> Overrides:
    """The overrides of a TOML file. Raises FileNotFoundError, and ValueError with file, number and key."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}; expected a TOML file with [[override]] tables")
    return parse_overrides(read_text(Path(path)), str(path))


def parse_overrides(text: str, source: str) -> Overrides:
    """The overrides of a TOML text. source: what a message begins with. Raises ValueError with number and key."""
    content = parse_toml(text, source)
    try:
        return Overrides.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(one + 1) if isinstance(one, int) else str(one) for one in first["loc"])
        raise ValueError(f"{source}, {place}: {first['msg'].removeprefix('Value error, ')}") from None
