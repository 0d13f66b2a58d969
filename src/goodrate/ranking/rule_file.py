"""The shop's ranking rules: pins, boosts and burials by query and date, a TOML file."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from goodrate.retrieval.rewriting.words import comparable, folded_words
from goodrate.settings import nearest, parse_toml
from goodrate.text_file import read_text

MAX_PLACE = 1000
Match = Literal["exact", "words", "contains"]
# pydantic's kinds of errors in this file's own words
EXPECTED = {
    "string_type": "a text in quotes", "int_type": "a whole number", "float_type": "a number", "list_type": "a list",
    "date_type": "a date such as 2026-08-31", "string_too_short": "a text that is not empty",
    "too_short": "a list that is not empty", "greater_than": "a number above 0",
    "greater_than_equal": "a place from 1 on", "less_than_equal": f"a place up to {MAX_PLACE:,}",
}  # fmt: skip


def _date(value: Any) -> Any:
    """A day that is written in quotes is read, too."""
    try:
        return datetime.date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[list[Text], Field(min_length=1)]
Day = Annotated[datetime.date, BeforeValidator(_date)]
Place = Annotated[int, Field(ge=1, le=MAX_PLACE)]


class Rule(BaseModel):
    """What every rule has.

    query: it applies to queries that match one of these; every query without. match: exact, the whole query is equal;
    words, it has all words in any order; contains, it has them side by side. Case, accents and punctuation do not
    count, and but for exact English plural endings do not either. first_day, last_day: `from` and `until`, both
    included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Text
    query: Annotated[list[Text], Field(min_length=1)] = []
    match: Match = "exact"
    first_day: Day | None = Field(None, alias="from")
    last_day: Day | None = Field(None, alias="until")

    @model_validator(mode="before")
    @classmethod
    def _one_query(cls, values: Any) -> Any:
        """A single query is a list of one."""
        single = isinstance(values, dict) and isinstance(values.get("query"), str)
        return {**values, "query": [values["query"]]} if single else values

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        if self.first_day and self.last_day and self.first_day > self.last_day:
            raise ValueError(f"from ({self.first_day}) is after until ({self.last_day})")
        for query in self.query:
            if not folded_words(query):
                raise ValueError(f"query {query!r} has no letter or digit")
        return self

    def applies(self, queries: Sequence[str], today: datetime.date) -> bool:
        """Whether it applies today to one of these (a query as it was typed, and as it was corrected)."""
        if (self.first_day and today < self.first_day) or (self.last_day and today > self.last_day):
            return False
        return not self.query or any(_matches(own, query, self.match) for own in self.query for query in queries)


class Pin(Rule):
    """Items at fixed places. places: one for each id; 1, 2, ... unless said."""

    query: Annotated[list[Text], Field(min_length=1)]
    ids: Ids
    places: list[Place] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Pin:
        _require_distinct("ids", self.ids)
        if self.places is not None:
            _require_distinct("places", self.places)
            if len(self.places) != len(self.ids):
                raise ValueError(f"places: expected {len(self.ids)} numbers, one for each id; found {len(self.places)}")
        return self

    def at(self) -> list[tuple[int, str]]:
        """(place, id) of its items."""
        return list(zip(self.places or range(1, len(self.ids) + 1), self.ids, strict=True))


class ItemsRule(Rule):
    """A rule for items: those of `ids`, or those that the filter `where` lets through."""

    ids: Ids | None = None
    where: Text | None = None

    @model_validator(mode="after")
    def _which(self) -> ItemsRule:
        if (self.ids is None) == (self.where is None):
            raise ValueError("expected either ids or where, which say which items it is for")
        return self


class Boost(ItemsRule):
    """Items that move. places: up by so many (down for a negative number). factor: from place p to p / factor."""

    places: int | None = None
    factor: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _how_far(self) -> Boost:
        if (self.places is None) == (self.factor is None):
            raise ValueError("expected either places or factor, which say how far items move")
        if self.places == 0 or self.factor == 1 or not math.isfinite(self.factor or 1):
            raise ValueError("places 0, factor 1 and factor inf move nothing")
        return self

    @property
    def lifts(self) -> bool:
        """Whether it moves items up."""
        return (self.places or 0) > 0 or (self.factor or 0) > 1

    def moved(self, place: float) -> float:
        """Where an item goes that stands at a place (from 1): between two others."""
        to = place - self.places if self.places is not None else place / (self.factor or 1)
        return to - 0.5 if to < place else to + 0.5


class Bury(ItemsRule):
    """Items that go behind all others (to = "end") or are not shown (to = "out")."""

    to: Literal["end", "out"] = "end"


class RankingRules(BaseModel):
    """The rules of a shop, each kind in the order of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pin: list[Pin] = []
    boost: list[Boost] = []
    bury: list[Bury] = []

    @model_validator(mode="after")
    def _named_apart(self) -> RankingRules:
        _require_distinct("name", [rule.name for rule in self.all()])
        return self

    @classmethod
    def read(cls, path: str | Path) -> RankingRules:
        """The rules of a TOML file; docs/ranking_rules.md.

        Raises FileNotFoundError, or ValueError with the file, the rule, its key and what was expected.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}; expected ranking rules in TOML, such as [[pin]]")
        return cls.parse(read_text(path), str(path))

    @classmethod
    def parse(cls, text: str, source: str) -> RankingRules:
        """The rules of a TOML text, see read. source: the file's name, for errors."""
        held = parse_toml(text, source)
        try:
            return cls.model_validate(held)
        except ValidationError as error:
            raise ValueError(f"{source}: {_reason(error, held)}") from None

    def check_filters(self, check: Callable[[str], object], source: str) -> None:
        """Raise ValueError with the file and the rule for a filter that cannot be read: it depends on the index.

        check: raises ValueError for such a filter. source: the file's name.
        """
        for kind, rules in (("boost", self.boost), ("bury", self.bury)):
            for rule in rules:
                try:
                    check(rule.where) if rule.where is not None else None
                except ValueError as error:
                    raise ValueError(f"{source}: {kind} {rule.name!r}: where: {error}") from None

    def __bool__(self) -> bool:
        return bool(self.pin or self.boost or self.bury)

    def all(self) -> list[Rule]:
        """Every rule."""
        return [*self.pin, *self.boost, *self.bury]

    def ids(self) -> list[str]:
        """Every id that a rule names, once."""
        rules: list[Pin | ItemsRule] = [*self.pin, *self.boost, *self.bury]
        named = [rule.ids or [] for rule in rules]
        return list(dict.fromkeys(item for ids in named for item in ids))

    def removing(self) -> RankingRules:
        """Of these those that take items out."""
        return RankingRules.model_construct(pin=[], boost=[], bury=[rule for rule in self.bury if rule.to == "out"])

    def for_query(self, queries: Sequence[str], today: datetime.date) -> RankingRules:
        """Those that apply today to one of these queries."""
        return RankingRules.model_construct(
            pin=[rule for rule in self.pin if rule.applies(queries, today)],
            boost=[rule for rule in self.boost if rule.applies(queries, today)],
            bury=[rule for rule in self.bury if rule.applies(queries, today)],
        )


@lru_cache(maxsize=1 << 16)
def _folded(text: str) -> tuple[str, ...]:
    return tuple(folded_words(text))


_words = lru_cache(maxsize=1 << 16)(comparable)


def _matches(own: str, query: str, match: Match) -> bool:
    """Whether a query is one that a rule means."""
    if match == "exact":
        return _folded(own) == _folded(query)
    wanted, found = _words(own), _words(query)
    if match == "words":
        return set(wanted) <= set(found)
    return any(found[place : place + len(wanted)] == wanted for place in range(len(found) - len(wanted) + 1))


def _require_distinct(key: str, values: Sequence[Any]) -> None:
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise ValueError(f"{key}: {twice!r} is there twice")


def _reason(error: ValidationError, held: Mapping[str, Any]) -> str:
    """The first thing that is wrong: which rule, which key, what was expected and found."""
    first = min(
        error.errors(), key=lambda detail: detail["type"] != "extra_forbidden"
    )  # a misspelt key is missing, too
    kind, *rest = first["loc"] or ("",)
    place = rest[0] if rest and isinstance(rest[0], int) else None
    where = _rule_name(str(kind), place, held) if place is not None else ""
    parts = [kind] if place is None else rest[1:]
    key = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in parts)
    problem = _problem(first, str(rest[-1] if place is not None and len(rest) > 1 else kind), str(kind))
    return ": ".join(part for part in (where, key if first["type"] != "extra_forbidden" else "", problem) if part)


def _rule_name(kind: str, place: int, held: Mapping[str, Any]) -> str:
    """The name of a rule, and without one which of its kind it is."""
    rule = held[kind][place]
    name = rule.get("name") if isinstance(rule, dict) else None
    return f"{kind} {name!r}" if isinstance(name, str) and name else f"{kind} rule {place + 1}"


def _problem(detail: Any, key: str, kind: str) -> str:
    """What is wrong with a value."""
    if detail["type"] == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    models: dict[str, type[BaseModel]] = {"pin": Pin, "boost": Boost, "bury": Bury}
    if detail["type"] == "extra_forbidden":
        model = models.get(kind, RankingRules) if kind != key else RankingRules
        known = [field.alias or name for name, field in model.model_fields.items()]
        return f"unknown key {key!r}; did you mean {nearest(key, known)!r}? known: {', '.join(known)}"
    if detail["type"] == "missing":
        return "expected, and it is not there"
    if detail["type"] == "literal_error":
        return f"expected {detail['ctx']['expected']}, found {detail['input']!r}"
    expected = EXPECTED.get(detail["type"], detail["msg"])
    return f"expected {expected}, found {detail['input']!r}"
