"""The rule book: from step verdicts (columns) to the deciding rule and the label. One TOML file, read by all stages."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.scale import RelevanceScale, get_scale
from goodrate.settings import parse_toml
from goodrate.text_file import read_text

DEFAULT_RULES = Path(__file__).parent / "default_rules.toml"
# The books that ship by name: the embedded shop's, and two for real catalogues.
BOOKS = {name: DEFAULT_RULES.with_name(f"{name}_rules.toml") for name in ("esci", "graded_0_3")} | {
    "shop": DEFAULT_RULES
}
MAX_COLUMNS = 32
MAX_COMBINATIONS = 1_000_000  # of column values: the table of a book has a place for each
BOOK_KEYS = ("version", "scale", "columns", "rules")
RULE_KEYS = ("id", "when", "label", "because", "about")


@dataclass(frozen=True)
class Rule:
    """If every named column has one of the named values, this label. `because` is the reason in words.

    query_words: words of queries that the rule speaks about, for its retrieval; none = it speaks about every query.
    """

    id: str
    when: dict[str, tuple[str, ...]]
    label: str
    because: str
    query_words: tuple[str, ...] = ()


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
        """Value names of a column as codes, int64 (N,). Raises ValueError naming the accepted columns or values."""
        if column not in self.columns:
            raise ValueError(f"no column {column!r}; columns: {', '.join(self.columns)}")
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
                accepted = ", ".join(columns[column])
                raise ValueError(f"{source}: rule {rule.id!r}, column {column!r}: {value!r} is not one of {accepted}")
    try:
        scale.index(rule.label)
    except ValueError as error:
        raise ValueError(f"{source}: rule {rule.id!r}: {error}") from error


def _compile(columns: dict[str, tuple[str, ...]], rules: tuple[Rule, ...], source: str) -> np.ndarray:
    """Rule index per combination. Later rules are painted first, so the first that applies wins."""
    places = math.prod(len(values) for values in columns.values())
    if places > MAX_COMBINATIONS or len(columns) > MAX_COLUMNS:
        raise ValueError(
            f"{source}: {len(columns)} columns have {float(places):,.0f} combinations of values; "
            f"expected at most {MAX_COLUMNS} columns and {MAX_COMBINATIONS:,} combinations"
        )
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


def _names(values: Any, where: str) -> tuple[str, ...]:
    """A non-empty list of distinct texts, as a tuple."""
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise ValueError(f'{where}: expected a list of texts such as ["none", "match"], got {values!r}')
    if len(set(values)) < len(values):
        raise ValueError(f"{where}: {next(v for v in values if values.count(v) > 1)!r} occurs twice")
    return tuple(values)


def _parse_rule(raw: Any, position: int, source: str) -> Rule:
    where = f"{source}: rule number {position + 1}"
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where} is not a [[rules]] table, but {raw!r}")
    for key in ("id", "when", "label"):
        if key not in raw:
            raise ValueError(f"{where} has no {key!r}")
    for key in ("id", "because"):
        if not isinstance(raw.get(key, ""), str):
            raise ValueError(f"{where}: {key} must be a text, got {raw[key]!r}")
    if not isinstance(raw["label"], (str, int, float)) or isinstance(raw["label"], bool):
        raise ValueError(f"{where}: label must be a label of the scale, got {raw['label']!r}")
    _refuse_unknown(raw, RULE_KEYS, where)
    where = f"{source}: rule {str(raw['id'])!r}"
    if not isinstance(raw["when"], Mapping):
        raise ValueError(f'{where}: when must be a table such as {{ category = ["same"] }}, got {raw["when"]!r}')
    when = {column: _names(values, f"{where}, column {column!r}") for column, values in raw["when"].items()}
    query_words = _names(raw["about"], f"{where}, about") if "about" in raw else ()
    return Rule(str(raw["id"]), when, str(raw["label"]), str(raw.get("because", raw["id"])), query_words)


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """The text and the TOML content of a rule book file, with its three required keys there."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the TOML file of a rule book")
    text = read_text(path)
    raw = parse_toml(text, str(path))
    for key, kind in (("scale", (str, dict)), ("columns", dict), ("rules", list)):
        if not isinstance(raw.get(key), kind) or not raw[key]:
            state = "missing" if key not in raw else "empty or of the wrong kind"
            raise ValueError(f"{path}: {key!r} is {state}; a rule book has scale, [columns] and [[rules]]")
    _refuse_unknown(raw, BOOK_KEYS, str(path))
    return text, raw


def _refuse_unknown(raw: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """ValueError for a key that nothing reads: a misspelt one would be left out in silence."""
    unknown = [key for key in raw if key not in known]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(known)}")


def _check_ids(rules: tuple[Rule, ...], source: str) -> None:
    """An id names one rule and is one word, because the verdict step of a rationale is one word."""
    ids = [rule.id for rule in rules]
    for rule_id in ids:
        if ids.count(rule_id) > 1:
            raise ValueError(f"{source}: rule id {rule_id!r} occurs {ids.count(rule_id)} times; ids must be unique")
        if len(rule_id.split()) != 1:
            raise ValueError(f"{source}: rule id {rule_id!r} must be one word without spaces")


def load_rulebook(path: Path = DEFAULT_RULES) -> RuleBook:
    """Read and validate a rule book. Raises ValueError naming the file and the rule, column or combination at fault."""
    text, raw = _read(path)
    try:
        scale = get_scale(raw["scale"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    columns = {name: _names(values, f"{path}: column {name!r}") for name, values in raw["columns"].items()}
    rules = tuple(_parse_rule(rule, n, str(path)) for n, rule in enumerate(raw["rules"]))
    _check_ids(rules, str(path))
    for rule in rules:
        _check_rule(rule, columns, scale, str(path))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return RuleBook(scale, columns, rules, _compile(columns, rules, str(path)), digest)


def named_rulebook(name: str | Path) -> RuleBook:
    """A book that ships, by its name, or that of a file. Raises as load_rulebook, FileNotFoundError with the names."""
    path = BOOKS.get(str(name), Path(name))
    if not path.exists():
        raise FileNotFoundError(f"no rule book {str(name)!r}: expected a TOML file, or one of {', '.join(BOOKS)}")
    return load_rulebook(path)


def combinations(book: RuleBook) -> list[dict[str, str]]:
    """Every combination of column values, for exhaustive tests and reviews."""
    names = list(book.columns)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*book.columns.values())]


def on_scale(book: RuleBook, scale: RelevanceScale) -> RuleBook:
    """The book with its labels by place on another scale of as many labels, worst first; it keeps its hash.

    Raises ValueError when the numbers of labels differ.
    """
    if len(scale) != len(book.scale):
        raise ValueError(
            f"the rule book gives {len(book.scale)} labels ({book.scale.name}), scale {scale.name} has {len(scale)}; "
            "name a book of your own with --rules"
        )
    rules = tuple(replace(rule, label=scale.labels[book.scale.index(rule.label)]) for rule in book.rules)
    return replace(book, scale=scale, rules=rules)


def rule_labels(book: RuleBook | None) -> dict[str, int]:
    """Label position by rule id; empty without a book: contradictions cannot be told then."""
    return {rule.id: book.scale.index(rule.label) for rule in book.rules} if book else {}
