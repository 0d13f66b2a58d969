"""What a filter may name, and how each of it is compared: columns of the table, and fields of the items' tags.

Texts are compared in their normal form (catalog.normal_form); id alone is compared as it is. A field may have several
values: it passes a test when one of them does, and the test with NOT when it has a value and none of them does. An item
without a value passes neither; IS NULL finds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import polars as pl

from goodrate.catalog.normal_form import normal_form
from goodrate.retrieval.facet_table import FacetTable, Terms
from goodrate.retrieval.tags import ATTRIBUTES, SIGN, bucket_ends, json_text, normal

Value = str | float | bool
KINDS: dict[type, str] = {float: "a number", str: "a text in single quotes", bool: "TRUE or FALSE"}
OPPOSITES = {"=": "!=", "<": ">=", ">": "<="} | {
    name: f"NOT {name}" for name in ("IN", "BETWEEN", "LIKE", "ILIKE")
} | {"IS NULL": "IS NOT NULL"}  # fmt: skip
OPPOSITES |= {opposite: name for name, opposite in OPPOSITES.items()}
PATTERNS = ("LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE")
EQUALITIES = ("=", "!=", "IN", "NOT IN")
NOTHING = f"array_has(tags, '{SIGN}')"  # no item has this tag
SAMPLES = 3  # values that a message shows


class WrongFilter(Exception):
    """What is wrong with a filter, in a few words."""


def short(text: str) -> str:
    """A text in quotes, cut where it is long."""
    return repr(text if len(text) <= 120 else f"{text[:120]}...")


def typed(value: Value) -> str:
    """A value as it is typed into a filter, cut where it is long."""
    return short(value) if isinstance(value, str) else str(value).upper() if isinstance(value, bool) else f"{value:g}"


def literal(value: Value) -> str:
    """A value as SQL."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).upper() if isinstance(value, bool) else repr(value)


@dataclass(frozen=True)
class Column:
    """A column of the table, compared as it is. type: str, float or bool, of the values that it is compared with."""

    name: str
    type: type

    def check(self, operator: str, values: Sequence[Value]) -> None:
        """Raise WrongFilter for a comparison that the column does not have. operator: a key of OPPOSITES."""
        if operator in PATTERNS and self.type is not str:
            raise WrongFilter(f"{operator} is for texts, and column {self.name!r} is compared with {KINDS[self.type]}")
        for value in values:
            if type(value) is not self.type:
                raise WrongFilter(f"column {self.name!r} is compared with {KINDS[self.type]}, found {typed(value)}")

    def opposite(self, operator: str) -> str:
        """The operator that lets through what this one does not, of the items with a value."""
        return OPPOSITES[operator]

    def sql(self, operator: str, values: Sequence[Value]) -> str:
        """One test for the engine. values: as many as the operator takes, of this type."""
        literals = [literal(value) for value in values]
        if operator == "IN":
            return f"{self.name} IN ({', '.join(literals)})"
        if operator == "NOT IN":  # beside OR the engine takes a bare one for true where there is no value
            return f"({self.name} IS NOT NULL AND {self.name} NOT IN ({', '.join(literals)}))"
        return " ".join([self.name, operator, " AND ".join(literals)]).rstrip()


class TextColumn(Column):
    """A column of texts with another beside it that has their normal forms; every item has a value."""

    def check(self, operator: str, values: Sequence[Value]) -> None:
        super().check(operator, values)
        require_filled(self.name, values)

    def sql(self, operator: str, values: Sequence[Value]) -> str:
        read = normal_pattern if operator in PATTERNS else normal
        return Column(f"{self.name}_normal", str).sql(operator, [read(str(value)) for value in values])


def require_filled(name: str, values: Sequence[Value]) -> None:
    """WrongFilter for a text of blanks: no value is one."""
    if any(isinstance(value, str) and not normal(value) for value in values):
        raise WrongFilter(f"no {name} is equal to an empty text; write {name} IS NULL for items without one")


def normal_pattern(pattern: str) -> str:
    r"""A LIKE pattern whose plain signs are in the normal form.

    >>> normal_pattern("Caf\u00c9 100\\%%")
    'café 100\\%%'
    """
    signs = re.findall(r"\\.|[%_]|[^\\%_]+", pattern, re.DOTALL)
    plain = [sign[1:] if sign.startswith("\\") else sign for sign in signs]
    forms = normal_form(pl.Series([f".{sign}." for sign in plain], dtype=pl.String)).str.slice(1).str.head(-1)
    escaped = forms.str.replace_all(r"([\\%_])", r"\$1").to_list()
    return "".join(sign if sign in ("%", "_") else form for sign, form in zip(signs, escaped, strict=True)).strip()


@dataclass(frozen=True)
class TagColumn(Column):
    """A field of the tags, of texts. terms: its values of this moment, None when no item has one."""

    terms: Callable[[], Terms | None] = lambda: None

    def check(self, operator: str, values: Sequence[Value]) -> None:
        super().check(operator, values)
        require_filled(self.name, values)

    def opposite(self, operator: str) -> str:
        known = {"=": "!=", "!=": "=", "IS NULL": "IS NOT NULL", "IS NOT NULL": "IS NULL"}
        if operator in known:
            return known[operator]
        return operator.removeprefix("NOT ") if operator.startswith("NOT ") else f"NOT {operator}"

    def sql(self, operator: str, values: Sequence[Value]) -> str:
        present = f"array_has(tags, {literal(self.name)})"
        if operator in ("IS NULL", "IS NOT NULL"):
            return present if operator == "IS NOT NULL" else f"NOT {present}"
        if operator == "!=" or operator.startswith("NOT "):
            return f"({present} AND NOT {self._any(self.opposite(operator), values)})"
        return self._any(operator, values)

    def _any(self, operator: str, values: Sequence[Value]) -> str:
        """That one of the values passes an operator without NOT."""
        tags = [literal(f"{self.name}{SIGN}{part}") for part in dict.fromkeys(self._parts(operator, values))]
        if not tags:
            return NOTHING
        return f"array_has(tags, {tags[0]})" if len(tags) == 1 else f"array_has_any(tags, [{', '.join(tags)}])"

    def _parts(self, operator: str, values: Sequence[Value]) -> Sequence[str]:
        """The values that pass, and buckets of which every number does, as they stand behind the name in a tag."""
        if operator in EQUALITIES:
            return [normal(str(value)) for value in values]
        terms = self.terms()
        return [] if terms is None else terms.values.filter(_passing(terms.values, operator, values)).to_list()


class AttributeColumn(TagColumn):
    """An attribute: compared as what its values are (Terms.type), and with texts for equality."""

    def check(self, operator: str, values: Sequence[Value]) -> None:
        require_filled(self.name, values)
        kind = self._kind()
        equality = operator in (*EQUALITIES, *PATTERNS)
        for value in values:
            number = isinstance(value, float) and kind is str and operator in EQUALITIES
            if type(value) is not kind and not (isinstance(value, str) and equality) and not number:
                raise WrongFilter(f"{self.name!r} holds {self._samples()} and is compared with {KINDS[kind]}, found "
                                  f"{typed(value)}")  # fmt: skip
        if operator in PATTERNS and any(type(value) is not str for value in values):
            raise WrongFilter(f"{operator} is for texts, found {typed(values[0])}")

    def _kind(self) -> type:
        terms = self.terms()
        return str if terms is None else terms.type

    def _samples(self) -> str:
        """A few values, those first that most items have."""
        terms = self.terms()
        assert terms is not None
        order = np.argsort(-terms.counts, kind="stable")[:SAMPLES]
        return ", ".join(short(terms.shown[int(place)]) for place in order)

    def _parts(self, operator: str, values: Sequence[Value]) -> Sequence[str]:
        terms = self.terms()
        numbers = [value for value in values if isinstance(value, float)]
        if terms is None or len(numbers) < len(values) or (operator in EQUALITIES and self._kind() is not float):
            texts = [value if isinstance(value, str) else json_text(value) for value in values]
            return super()._parts(operator, texts)
        return _of_numbers(terms, operator, numbers)


class ForgivingColumn(AttributeColumn):
    """An attribute that is compared with whatever is asked."""

    def check(self, operator: str, values: Sequence[Value]) -> None:
        """Whether it has such values is not known yet, or not any more."""
        require_filled(self.name, values)
        if operator in PATTERNS and any(type(value) is not str for value in values):
            raise WrongFilter(f"{operator} is for texts, found {typed(values[0])}")


def _passing(texts: pl.Series, operator: str, values: Sequence[Value]) -> pl.Series:
    """(V,) which texts pass a comparison or a pattern."""
    if operator in PATTERNS:
        return texts.str.contains(_expression(normal_pattern(str(values[0]))))
    bounds = [normal(str(value)) for value in values]
    if operator == "BETWEEN":
        return (texts >= bounds[0]) & (texts <= bounds[1])
    compare = {"<": texts.__lt__, "<=": texts.__le__, ">": texts.__gt__, ">=": texts.__ge__}
    return compare[operator](bounds[0])


def _expression(pattern: str) -> str:
    """A LIKE pattern as a regular expression of polars."""
    signs = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    return f"(?s)^{''.join(wild.get(sign) or pl.escape_regex(sign[-1]) for sign in signs)}$"


def _of_numbers(terms: Terms, operator: str, values: Sequence[float]) -> list[str]:
    """The values whose numbers pass; a bucket in place of all its values where everything in it passes."""
    passes = _number_test(operator, values)(terms.numbers)
    if operator in EQUALITIES:
        return terms.values.filter(pl.Series(passes)).to_list()
    names, of_value = terms.buckets
    if not names:
        return []
    ends = np.array([bucket_ends(name) for name in names])
    full = np.asarray(_number_test(operator, values)(ends).all(axis=1))
    single = passes & ~full[of_value]  # what is no number passes nothing, whatever stands at place -1
    asked = full & (np.bincount(of_value[passes], minlength=len(names)) > 0)
    buckets = [SIGN + names[int(place)] for place in np.flatnonzero(asked)]
    return [*buckets, *terms.values.filter(pl.Series(single)).to_list()]


def _number_test(operator: str, values: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    """What an operator asks of numbers; NaN passes nothing."""
    tests: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
        "<": lambda x: x < values[0], "<=": lambda x: x <= values[0], ">": lambda x: x > values[0],
        ">=": lambda x: x >= values[0], "=": lambda x: x == values[0], "IN": lambda x: np.isin(x, values),
        "BETWEEN": lambda x: (x >= values[0]) & (x <= values[-1]),
    }  # fmt: skip
    return tests[operator]


TEXT_FIELDS = ("brand", "category", "currency", "parent_id")
NUMBER_COLUMNS = ("price", "rating")


class IndexColumns(Mapping[str, Column]):
    """What a filter may name of one index. An attribute is looked up when it is named; iterating leaves them out."""

    def __init__(self, table: Callable[[], FacetTable] | None = None, forgiving: bool = False) -> None:
        """table: the values of this moment; None: no value of a field is known. forgiving: any attribute may be named
        and compared with anything; one that no item has lets none through.
        """
        self._table, self._forgiving = table, forgiving
        own: list[Column] = [Column("id", str), TextColumn("title", str)]
        own += [TagColumn(name, str, self._terms(name)) for name in TEXT_FIELDS]
        own += [Column(name, float) for name in NUMBER_COLUMNS]
        self._own = {column.name: column for column in own}

    def __getitem__(self, name: str) -> Column:
        """By the name in its normal form."""
        if name in self._own:
            return self._own[name]
        if not name.startswith(ATTRIBUTES) or name == ATTRIBUTES:
            raise KeyError(name)
        if self._forgiving:
            return ForgivingColumn(name, str, self._terms(name))
        if self._table is None or name not in self._table().fields:
            raise KeyError(name)
        return AttributeColumn(name, str, self._terms(name))

    @property
    def forgiving(self) -> IndexColumns:
        """The same for filters that stand in files and outlive the values that they name."""
        return IndexColumns(self._table, forgiving=True)

    @property
    def has_attributes(self) -> bool:
        """Whether attributes can be looked up."""
        return self._table is not None or self._forgiving

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def nearest(self, name: str) -> list[str]:
        """Names like one that is not there, as a filter writes them; at most SAMPLES."""
        known = {} if self._table is None else dict.fromkeys(self._table().attributes, ATTRIBUTES)
        known |= dict.fromkeys(self._own, "")
        wanted = name.removeprefix(ATTRIBUTES)
        found = get_close_matches(wanted, known, SAMPLES, cutoff=0.6)
        return [written(known[near] + near) for near in found]

    def _terms(self, name: str) -> Callable[[], Terms | None]:
        table = self._table
        return lambda: None if table is None else table().field(name)


def written(name: str) -> str:
    """A field as a filter writes it.

    >>> written("brand"), written("attributes.color"), written('attributes.4" disk')
    ('brand', 'attributes.color', 'attributes."4"" disk"')
    """
    bare = name.removeprefix(ATTRIBUTES)
    if bare == name or re.fullmatch(r"[a-z_][a-z0-9_]*", bare):
        return name
    return ATTRIBUTES + '"' + bare.replace('"', '""') + '"'
