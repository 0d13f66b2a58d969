"""The words of one language that exclusions, prices and measures are said with: a TOML file of the package."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
WORD = re.compile(r"w/(?:o(?:ut)?)?(?![^\W_])|&|[^\W_]+(?:['’][^\W_]+)*", re.IGNORECASE)
BREAK = re.compile(r"[,;:.!?()\[\]|/]|\s[-–—]\s")  # between two words: no phrase goes across

Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Word:
    """A word of a text in lower case and where it stands. hyphen: a hyphen joins it to the word in front of it.

    gap: what stands between the word in front and this one.
    """

    text: str
    start: int
    end: int
    gap: str

    @property
    def hyphen(self) -> bool:
        """Whether it is the second half of a word such as non-stick."""
        return self.gap in ("-", "‑", "–")

    @property
    def broken(self) -> bool:
        """Whether a comma, a bracket or the like stands in front of it."""
        return bool(BREAK.search(self.gap))


def words_in(text: str) -> list[Word]:
    """The words of a text.

    >>> [word.text for word in words_in("Non-stick pan w/o lid, don't ask")]
    ['non', 'stick', 'pan', 'w/o', 'lid', "don't", 'ask']
    """
    words: list[Word] = []
    end = 0
    for found in WORD.finditer(text):
        words.append(
            Word(found.group().lower().replace("’", "'"), found.start(), found.end(), text[end : found.start()])
        )
        end = found.end()
    return words


class Phrases:
    """A set of phrases, found in a list of words by their first word."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, list[Phrase]] = {}
        for text in phrases:
            phrase = tuple(word.text for word in words_in(text))
            self._by_first.setdefault(phrase[0], []).append(phrase)
        for found in self._by_first.values():
            found.sort(key=len, reverse=True)

    def at(self, words: Sequence[Word], place: int) -> int:
        """How many words the longest phrase takes that starts at a place; 0 = none starts there."""
        for phrase in self._by_first.get(words[place].text, ()):
            run = words[place : place + len(phrase)]
            if tuple(w.text for w in run) == phrase and not any(w.broken for w in run[1:]):
                return len(phrase)
        return 0

    def covered(self, words: Sequence[Word]) -> set[int]:
        """The places of all words that are part of a phrase."""
        return {at + i for at in range(len(words)) for i in range(self.at(words, at))}

    def before(self, words: Sequence[Word], place: int, reach: int) -> bool:
        """Whether a phrase starts among the `reach` words in front of a place."""
        return any(self.at(words, at) for at in range(max(0, place - reach), place))

    def __contains__(self, word: str) -> bool:
        return (word,) in self._by_first.get(word, ())


@dataclass(frozen=True)
class Unit:
    """factor: how many of its dimension's base unit one is. dimension: with the base unit, "length_cm"."""

    dimension: str
    factor: float


@dataclass(frozen=True)
class ConstraintRules:
    """The rules of a language, by the keys of its file; lists of words are Phrases."""

    language: str
    decimal: str
    exclusion: Mapping[str, Any]
    price: Mapping[str, Any]
    measure: Mapping[str, Any]
    currencies: Mapping[str, str]
    units: Mapping[str, Unit]

    def number(self, text: str) -> float:
        """A written number. The last of two kinds of marks is the decimal one; before three digits it depends.

        >>> load_rules("en").number("1,299"), load_rules("de").number("1.299,50"), load_rules("en").number("19,99")
        (1299.0, 1299.5, 19.99)
        """
        marks = [mark for mark in text if mark in ".,"]
        if not marks:
            return float(text)
        last = marks[-1]
        digits = len(text) - text.rindex(last) - 1
        thousands = len(set(marks)) == 1 and (len(marks) > 1 or (digits == 3 and last != self.decimal))
        other = "," if last == "." else "."
        plain = text.replace(last, "") if thousands else text.replace(other, "").replace(last, ".")
        return float(plain)


def languages() -> list[str]:
    """The languages that have a rule file."""
    return sorted(path.stem.removeprefix("query_rules_") for path in FOLDER.glob("query_rules_*.toml"))


@functools.lru_cache(maxsize=16)
def load_rules(language: str) -> ConstraintRules:
    """The rules of a language, read once. Raises ValueError naming the known languages, or what a file lacks."""
    if language not in languages():
        raise ValueError(f"no query rules for language {language!r}; known: {', '.join(languages())}")
    return parse_rules((FOLDER / f"query_rules_{language}.toml").read_text(encoding="utf-8"), f"query_rules_{language}")


def parse_rules(text: str, source: str) -> ConstraintRules:
    """Rules from the text of a TOML file. Raises ValueError naming source and key."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not valid TOML: {error}") from error
    missing = [".".join(key) for key in REQUIRED if _lacks(raw, key)]
    if missing:
        raise ValueError(f"{source}: key {missing[0]!r} is missing; query_rules_en.toml explains all keys")
    units = {name: Unit(dim, float(factor)) for dim, names in raw["units"].items() for name, factor in names.items()}
    exclusion, price, measure = (_compiled(raw[part]) for part in ("exclusion", "price", "measure"))
    return ConstraintRules(raw["language"], raw["decimal"], exclusion, price, measure, raw["currencies"], units)


def _lacks(raw: Mapping[str, Any], key: Phrase) -> bool:
    inner: Any = raw
    for name in key:
        if not isinstance(inner, Mapping) or name not in inner:
            return True
        inner = inner[name]
    return False


def _compiled(table: Mapping[str, Any]) -> dict[str, Any]:
    """The lists of phrases as Phrases; all else, and what is used as plain text, as it is."""
    return {
        name: Phrases(value) if isinstance(value, list) and name not in PLAIN else value
        for name, value in table.items()
    }


# Lists that patterns are made of.
PLAIN = {
    "before", "below", "above", "below_behind", "above_behind", "below_with_currency", "above_with_currency", "between",
    "to", "by", "fused", "suffixes", "negative_prefixes", "compound_exceptions", "attached_only", "attached_or_last",
    "names",
}  # fmt: skip


def _required() -> Iterator[Phrase]:
    yield from (("language",), ("decimal",), ("currencies",), ("units",))
    own = {
        "exclusion": """without no not prefixes suffixes fused idioms substances modifiers articles joiners weak_joiners
            swallowed stops tails before_not after_not abstract things_in_ing media negators negator_needs not_negating
            blockers absent_after free_not other_thing including included_after negative_prefixes""",
        "price": """before below above below_with_currency above_with_currency below_behind above_behind between to
            cheap not_cheap counted children adults""",
        "measure": "attached_only attached_or_last names unless_beside below above by",
    }
    yield from ((part, name) for part, names in own.items() for name in names.split())


REQUIRED = tuple(_required())


def alternatives(texts: Iterable[str]) -> str:
    """A pattern of any of the texts, the longest first; spaces in them are any white space.

    >>> alternatives(["up", "up to"])
    '(?:up\\\\s+to|up)'
    """
    ordered = sorted(texts, key=len, reverse=True)
    return "(?:" + "|".join(r"\s+".join(re.escape(word) for word in text.split()) for text in ordered) + ")"
