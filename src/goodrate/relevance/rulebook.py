"""The rule book: from step verdicts (columns) to the deciding rule and the label. One TOML file, read by all stages."""

from __future__ import annotations

import hashlib
import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.scale import RelevanceScale, get_scale

DEFAULT_RULES = Path(__file__).parent / "default_rules.toml"


@dataclass(frozen=True)
class Rule:
    """If every named column has one of the named values, this label. `because` is the reason in words."""

    id: str
    when: dict[str, tuple[str, ...]]
    label: str
    because: str


@dataclass(frozen=True)
class RuleBook:
    """Ordered rules over declared columns; the first that applies decides.

    table: rule index for every combination of column values, one axis per column, so that a whole catalogue is judged
    by one fancy-indexing operation. Loading refuses a book that leaves a combination open or holds a dead rule.
    """

    scale: RelevanceScale
    columns: dict[str, tuple[str, ...]]
    rules: tuple[Rule, ...]
    table: np.ndarray
    hash: str

    def codes(self, column: str, values: list[str]) -> np.ndarray:
        """Value names of a column as codes, int64 (N,). Raises ValueError naming the accepted values."""
        accepted = self.columns[column]
        unknown = sorted(set(values) - set(accepted))
        if unknown:
            raise ValueError(f"column {column!r} has no value {unknown[0]!r}; accepted: {', '.join(accepted)}")
        return np.asarray([accepted.index(v) for v in values], dtype=np.int64)

    def decide(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The deciding rule's index (...), from one code array (...) per column; they broadcast."""
        missing = [name for name in self.columns if name not in columns]
        if missing:
            raise ValueError(f"rule book needs column {missing[0]!r}; columns: {', '.join(self.columns)}")
        return self.table[tuple(columns[name] for name in self.columns)]

    def labels(self, rule_indices: np.ndarray) -> np.ndarray:
        """Label positions (...) of deciding rules (...)."""
        by_rule = np.asarray([self.scale.index(rule.label) for rule in self.rules], dtype=np.int64)
        return by_rule[rule_indices]

    def index(self, rule_id: str) -> int:
        """Position of a rule. Raises ValueError with the known ids."""
        for position, rule in enumerate(self.rules):
            if rule.id == rule_id:
                return position
        raise ValueError(f"no rule {rule_id!r}; known: {', '.join(r.id for r in self.rules)}")


def _check_rule(rule: Rule, columns: dict[str, tuple[str, ...]], scale: RelevanceScale, source: str) -> None:
    for column, values in rule.when.items():
        if column not in columns:
            raise ValueError(f"{source}: rule {rule.id!r} names column {column!r}; columns: {', '.join(columns)}")
        for value in values:
            if value not in columns[column]:
                raise ValueError(
                    f"{source}: rule {rule.id!r}, column {column!r}: {value!r} is not one of {', '.join(columns[column])}"
                )
    scale.index(rule.label)


def _compile(columns: dict[str, tuple[str, ...]], rules: tuple[Rule, ...], source: str) -> np.ndarray:
    """Rule index per combination. Later rules are painted first, so the first that applies wins."""
    table = np.full([len(values) for values in columns.values()], -1, dtype=np.int64)
    for position in reversed(range(len(rules))):
        when = rules[position].when
        axes = [[values.index(v) for v in when.get(name, values)] for name, values in columns.items()]
        table[np.ix_(*axes)] = position
    if (table < 0).any():
        first = np.argwhere(table < 0)[0]
        shown = ", ".join(f"{n}={v[i]}" for (n, v), i in zip(columns.items(), first, strict=True))
        raise ValueError(f"{source}: no rule covers {shown} (and {int((table < 0).sum()) - 1} more combinations)")
    dead = sorted(set(range(len(rules))) - set(np.unique(table).tolist()))
    if dead:
        raise ValueError(f"{source}: rule {rules[dead[0]].id!r} can never decide; an earlier rule always applies")
    return table


def _parse_rule(raw: Mapping[str, Any], position: int, source: str) -> Rule:
    for key in ("id", "when", "label"):
        if key not in raw:
            raise ValueError(f"{source}: rule number {position + 1} has no {key!r}")
    when = {column: tuple(values) for column, values in raw["when"].items()}
    return Rule(str(raw["id"]), when, str(raw["label"]), str(raw.get("because", raw["id"])))


def load_rulebook(path: Path = DEFAULT_RULES) -> RuleBook:
    """Read and validate a rule book. Raises ValueError naming the file and the rule, column or combination at fault."""
    text = path.read_text(encoding="utf-8")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    for key in ("scale", "columns", "rules"):
        if key not in raw:
            raise ValueError(f"{path}: missing {key!r}; a rule book has scale, columns and rules")
    scale = get_scale(raw["scale"])
    columns = {name: tuple(values) for name, values in raw["columns"].items()}
    rules = tuple(_parse_rule(rule, n, str(path)) for n, rule in enumerate(raw["rules"]))
    for rule in rules:
        _check_rule(rule, columns, scale, str(path))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return RuleBook(scale, columns, rules, _compile(columns, rules, str(path)), digest)


def combinations(book: RuleBook) -> list[dict[str, str]]:
    """Every combination of column values, for exhaustive tests and reviews."""
    names = list(book.columns)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*book.columns.values())]
