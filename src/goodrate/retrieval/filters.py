"""The --where filter: a small language over columns and attributes, read here and written anew as SQL for the engine.

    filter     = any { OR any }
    any        = one { AND one }
    one        = NOT one | "(" filter ")" | VALUE compare COLUMN | COLUMN test
    test       = compare VALUE | IS [NOT] NULL
               | [NOT] ( IN "(" VALUE {, VALUE} ")" | BETWEEN VALUE AND VALUE | LIKE TEXT | ILIKE TEXT )
    compare    = "=" | "!=" | "<>" | "<" | "<=" | ">" | ">="
    COLUMN     = a name of filter_columns.IndexColumns | attributes.NAME | attributes."ANY NAME"

The engine never sees what was typed: some texts that its own parser takes end its process or fill the memory. NOT is
carried down to the tests, which changes nothing in a logic with NULL, and chains of AND and OR become balanced trees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from goodrate.retrieval.filter_columns import (
    KINDS,
    PATTERNS,
    Column,
    IndexColumns,
    Value,
    WrongFilter,
    short,
)
from goodrate.retrieval.tags import normal

MAX_CHARACTERS = 10_000
MAX_PARENTHESES = 50  # one in the other
MAX_NESTING = 18  # of AND and OR in each other, as written for the engine, whose parser ends at 22
MAX_WILDCARDS = 100  # in all patterns of a filter: the engine takes 0.3 ms for each on 20,000 texts of 120 characters

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
KEYWORDS = {"AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "ILIKE", "IS", "NULL", "TRUE", "FALSE"}
# Those of every index; for attributes, what can be said without one.
DECLARED_COLUMNS: Mapping[str, Column] = IndexColumns(forgiving=True)
EXAMPLE = "price < 50 AND brand = 'Anker' AND attributes.\"screen size\" >= 15"


class Predicate(NamedTuple):
    """One column and what is asked of it."""

    column: Column
    operator: str
    values: tuple[Value, ...]


class Joined(NamedTuple):
    """Conditions that must all hold (AND), or of which one must (OR); two at least."""

    word: str
    parts: tuple[Condition, ...]


Condition = Predicate | Joined


class Token(NamedTuple):
    """kind: number, text, word, sign or end. text: as it was typed. place: from 1."""

    kind: str
    text: str
    place: int


TOKEN = re.compile(
    r"""(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?(?![\w.]))
      | (?P<text>'[^']*(?:''[^']*)*')
      | (?P<word>[a-z_]\w*(?:\.(?:\w+|"[^"]*(?:""[^"]*)*"))?)
      | (?P<sign><=|>=|!=|<>|[=<>(),])""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def filter_sql(where: str | None, columns: Mapping[str, Column] = DECLARED_COLUMNS) -> str | None:
    """The filter as SQL for the engine, or None for none. columns: by name in lower case.

    Raises ValueError, which names the accepted forms and the columns, for whatever is not of the language.
    >>> filter_sql("NOT (PRICE < 50 or id = 'O''Dare')")
    "(price >= 50.0 AND id != 'O''Dare')"
    """
    if where is None:
        return None
    try:
        return condition_sql(Parser(where, columns).condition())
    except WrongFilter as error:
        raise ValueError(_message(where, str(error), columns)) from None


def _message(where: str, reason: str, columns: Mapping[str, Column]) -> str:
    """The one message for every wrong filter: what is wrong, what is accepted, which columns exist, an example."""
    known = isinstance(columns, IndexColumns) and columns.has_attributes
    by_kind = {kind: [name for name, column in columns.items() if column.type is kind] for kind in KINDS}
    lists = [f"{', '.join(names)} ({KINDS[kind].removeprefix('a ')})" for kind, names in by_kind.items() if names]
    lists += ["attributes.NAME (by its values)"] if known else []
    return (
        f"filter {short(where)}: {reason}; accepted: COLUMN = != < <= > >= VALUE, [NOT] IN (...), [NOT] BETWEEN "
        f"... AND ..., [NOT] LIKE, [NOT] ILIKE, IS [NOT] NULL, joined by AND, OR, NOT and parentheses; columns: "
        f"{', '.join(lists)}; example: {EXAMPLE}"
    )


def field_name(word: str) -> str:
    """A field as it is typed, in the normal form.

    >>> field_name('Attributes."Screen  Size"'), field_name("BRAND")
    ('attributes.screen size', 'brand')
    """
    head, point, rest = word.partition(".")
    name = rest[1:-1].replace('""', '"') if rest.startswith('"') else rest
    return head.lower() + point + (normal(name) if name else "")


def tokens(where: str) -> Iterator[Token]:
    """The words, signs and values of a filter, with one of kind "end" at last."""
    place = 0
    while place < len(where):
        if where[place] in " \t\r\n":
            place += 1
            continue
        found = TOKEN.match(where, place)
        if found is None:
            raise WrongFilter(_unread(where, place))
        yield Token(str(found.lastgroup), found.group(), place + 1)
        place = found.end()
    yield Token("end", "", len(where) + 1)


def _unread(where: str, place: int) -> str:
    """Why nothing of the language stands at a place."""
    if where[place] == "'":
        return f"the text that begins at character {place + 1} is not closed; a quote inside a text is doubled"
    if where.startswith(("--", "/*", ";"), place):
        return f"comments and ';' are not accepted (character {place + 1})"
    hint = "; texts go in single quotes" if where[place] == '"' else ""
    if where[place].isalpha():
        hint = "; a name with other signs than a-z, 0-9 and _ goes in double quotes: attributes.\"Gr\u00f6\u00dfe\""
    return f"cannot read {short(where[place : place + 10])} at character {place + 1}{hint}"


class Parser:
    """Reads one filter by recursive descent, as deep as MAX_PARENTHESES."""

    def __init__(self, where: str, columns: Mapping[str, Column]) -> None:
        if len(where) > MAX_CHARACTERS:
            raise WrongFilter(f"it has {len(where):,} characters; at most {MAX_CHARACTERS:,} are read")
        if any("\ud800" <= sign <= "\udfff" for sign in where):
            raise WrongFilter("it holds half of a character (a lone surrogate)")
        self._columns = columns
        self._tokens = list(tokens(where))
        self._next = self._open = self._wildcards = 0

    def condition(self) -> Condition:
        """The whole filter."""
        if self._token.kind == "end":
            raise WrongFilter("it is empty")
        found = self._any(negated=False)
        if self._token.kind != "end":
            raise self._expected("AND, OR or the end")
        return found

    def _any(self, negated: bool) -> Condition:
        return self._chain("OR", lambda: self._all(negated), negated)

    def _all(self, negated: bool) -> Condition:
        return self._chain("AND", lambda: self._one(negated), negated)

    def _chain(self, word: str, read: Callable[[], Condition], negated: bool) -> Condition:
        """Conditions with a word between them. Negated, AND is OR and OR is AND (De Morgan)."""
        parts = [read()]
        while self._taken(word):
            parts.append(read())
        return joined({"AND": "OR", "OR": "AND"}[word] if negated else word, parts)

    def _one(self, negated: bool) -> Condition:
        while self._taken("NOT"):
            negated = not negated
        if self._taken("("):
            self._open += 1
            if self._open > MAX_PARENTHESES:
                raise WrongFilter(f"more than {MAX_PARENTHESES} parentheses stand one in the other")
            found = self._any(negated)
            self._take(")", "AND, OR or ')'")
            self._open -= 1
            return found
        test = self._test()
        return test._replace(operator=test.column.opposite(test.operator)) if negated else test

    def _test(self) -> Predicate:
        """One column with what is asked of it, or a value compared with a column."""
        if self._token.kind in ("number", "text"):
            value = self._value("a value")
            mirrored = MIRRORED[self._comparison()]
            return self._checked(self._column(), mirrored, (value,))
        column = self._column()
        if self._taken("IS"):
            operator = "IS NOT NULL" if self._taken("NOT") else "IS NULL"
            self._take("NULL", "NULL or NOT NULL")
            return Predicate(column, operator, ())
        negation = "NOT " if self._taken("NOT") else ""
        readers = {"IN": self._list, "BETWEEN": self._bounds, "LIKE": self._alone, "ILIKE": self._alone}
        for word, read in readers.items():
            if self._taken(word):
                return self._checked(column, negation + word, read(word))
        if negation:
            raise self._expected("IN, BETWEEN, LIKE or ILIKE")
        operator = self._comparison()
        return self._checked(column, operator, self._alone(operator))

    def _checked(self, column: Column, operator: str, values: tuple[Value, ...]) -> Predicate:
        """The test, if the column can be compared so and with these values."""
        if operator in PATTERNS and isinstance(values[0], str):
            self._count_wildcards(values[0])
        column.check(operator, values)
        return Predicate(column, operator, values)

    def _count_wildcards(self, pattern: str) -> None:
        r"""In a pattern % stands for any characters and _ for one; \%, \_ and \\ are the characters themselves."""
        bare = re.sub(r"\\[%_\\]", "", pattern)
        if "\\" in bare:
            raise WrongFilter(rf"in pattern {short(pattern)} a backslash stands before something else than %, _ or \ ")
        self._wildcards += len(re.findall("[%_]", bare))
        if self._wildcards > MAX_WILDCARDS:
            raise WrongFilter(f"its patterns have more than {MAX_WILDCARDS} signs % and _")

    def _alone(self, operator: str) -> tuple[Value, ...]:
        return (self._value(f"a value after {operator}"),)

    def _bounds(self, _: str) -> tuple[Value, ...]:
        low = self._value("a value after BETWEEN")
        self._take("AND", "AND and the upper bound")
        return low, self._value("the upper bound")

    def _list(self, _: str) -> tuple[Value, ...]:
        self._take("(", "'(' and the values")
        values = [self._value("a value")]
        while self._taken(","):
            values.append(self._value("a value"))
        self._take(")", "',' or ')'")
        return tuple(values)

    def _value(self, wanted: str) -> Value:
        token = self._token
        word = token.text.upper()
        if token.kind == "text":
            value: Value = token.text[1:-1].replace("''", "'")
        elif token.kind == "number":
            value = _number(token)
        elif word in ("TRUE", "FALSE"):
            value = word == "TRUE"
        elif word == "NULL":
            raise WrongFilter(f"nothing is equal to NULL; write IS NULL or IS NOT NULL (character {token.place})")
        else:
            raise self._expected(f"{wanted} (texts go in single quotes)" if token.kind == "word" else wanted)
        self._next += 1
        return value

    def _column(self) -> Column:
        token = self._token
        if token.kind != "word" or token.text.upper() in KEYWORDS:
            raise self._expected("a column")
        name = field_name(token.text)
        if name not in self._columns:
            raise WrongFilter(f"no column named {token.text} that can be filtered (character {token.place})"
                              f"{self._nearest(name)}")  # fmt: skip
        self._next += 1
        return self._columns[name]

    def _nearest(self, name: str) -> str:
        """Which names are like one that is not there."""
        found = self._columns.nearest(name) if isinstance(self._columns, IndexColumns) else []
        return f"; the nearest: {', '.join(found)}" if found else ""

    def _comparison(self) -> str:
        sign = "!=" if self._token.text == "<>" else self._token.text
        if sign not in COMPARISONS:
            raise self._expected("a comparison")
        self._next += 1
        return sign

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _taken(self, word: str) -> bool:
        """Whether a word or sign comes next, which is then behind us."""
        found = self._token.kind in ("word", "sign") and self._token.text.upper() == word
        self._next += found
        return found

    def _take(self, word: str, wanted: str) -> None:
        if not self._taken(word):
            raise self._expected(wanted)

    def _expected(self, wanted: str) -> WrongFilter:
        token = self._token
        if token.kind == "end":
            return WrongFilter(f"expected {wanted}, found the end")
        return WrongFilter(f"expected {wanted}, found {short(token.text)} at character {token.place}")


def _number(token: Token) -> float:
    value = float(token.text)
    if not math.isfinite(value):
        raise WrongFilter(f"the number at character {token.place} is too large")
    return value


def joined(word: str, parts: Sequence[Condition]) -> Condition:
    """Conditions under one word; those that are joined by the same word become part of the chain."""
    flat: list[Condition] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Joined) and part.word == word else [part])
    return flat[0] if len(flat) == 1 else Joined(word, tuple(flat))


def condition_sql(condition: Condition) -> str:
    """A condition as SQL; AND and OR have two sides each, in parentheses. Raises WrongFilter when nested too deeply."""
    return _nested_sql(condition, 0)


def _nested_sql(condition: Condition, nesting: int) -> str:
    """The SQL of a condition inside `nesting` others."""
    if isinstance(condition, Predicate):
        return condition.column.sql(condition.operator, condition.values)
    if nesting >= MAX_NESTING:
        raise WrongFilter("AND and OR are nested too deeply in each other")
    half = len(condition.parts) // 2
    sides = [joined(condition.word, side) for side in (condition.parts[:half], condition.parts[half:])]
    return f"({_nested_sql(sides[0], nesting + 1)} {condition.word} {_nested_sql(sides[1], nesting + 1)})"
