"""The entities of an item: what a query can be held against one by one, as (type, text) in one spelling.

From a catalogue row: category path (leaf and parent), brand, the types of attribute that the catalogue shares values
of, and spans of the title (of the description where the title has few). No tagger: a span is the longest run of words
that the titles share, else a word. Rules, types and shared phrases are ours (docs/entity_judge.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from goodrate.catalog.items import PATH_SEPARATOR, VALUE_SEPARATOR
from goodrate.catalog.normal_form import normal_text
from goodrate.relevance.pairs import TEXT, Item
from goodrate.strict_json import parse

CATEGORY, TITLE, DETAIL, BRAND = "category", "title", "detail", "brand"
WHOLE_ITEM, WHOLE_TEXT = "whole item", "whole text"  # all that is read of an item: as what it is, and as what it has
WANTS = "wants"  # the type of the question whether a query constrains a type: "wants: color"
KIND_TYPES = (CATEGORY, "product type", "product class", TITLE)  # that say what an item is
SOURCES = ("all", "structured", "spans")
MOST, MOST_OF_TYPE, ENOUGH_SPANS, MOST_SPANS = 20, 3, 5, 8
CHARACTERS = 60  # of an entity; the rest is cut off at a word
LONGEST = 3  # words of a phrase
# "for iphone 7" is another thing than "iphone 7", "without cap" another than "cap".
MARKERS = frozenset({"for", "without", "with", "no", "not", "non"})
STOPS = frozenset({"a", "an", "the", "and", "or", "of", "in", "on", "to", "by", "from", "at", "as", "is", "your"})
SPELLINGS = {"colour": "color", "colours": "color", "colors": "color", "grey": "gray"}
_WORD = re.compile(r"[^\W_]+(?:[.'\u2019+-][^\W_]+)*\+*")
_VALUES = re.compile(r"\s*(?:[,;|\n]|\s/\s)\s*")
_NUMBER = re.compile(r"(?=.*\d)[\d.,/x \u00d7-]+")


class Entity(NamedTuple):
    """type: color, category, ...; title and detail are spans, as what an item is and as what it has."""

    type: str
    text: str

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"

    @property
    def named(self) -> str:
        """The entity in few words, for people."""
        return f"{self.type}: {shortened(self.text)}"


@dataclass(frozen=True)
class EntityRules:
    """Which entities an item has. They follow from a catalogue (catalog_entities.learned_rules) and stay with a judge.

    types: of attributes that queries can constrain, brand and detail among them, most shared first. phrases: runs of
    words that titles share. sources: one of SOURCES. most: entities of an item. whole: fields of which an item's text
    as a whole is made; with some, WHOLE_TEXT is the last of the types. What `of` gives are parts, without the whole.
    """

    types: tuple[str, ...] = (BRAND, DETAIL)
    phrases: frozenset[str] = field(default=frozenset(), repr=False)
    sources: str = "all"
    most: int = MOST
    whole: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.whole) != (WHOLE_TEXT in self.types):
            raise ValueError(f"whole {list(self.whole)}: fields of the whole item go with a type {WHOLE_TEXT!r}")
        if self.sources not in SOURCES:
            raise ValueError(f"sources {self.sources!r} is not one of {', '.join(SOURCES)}")

    def group(self, type_: str) -> int:
        """Which part of the logic a type speaks in: 0 = what the item is, 1.. = the place in `types` after that."""
        return 0 if type_ in (*KIND_TYPES, WHOLE_ITEM) else self.types.index(type_) + 1

    def of(self, item: Item) -> tuple[Entity, ...]:
        """The entities of one item, without repetition: `most` at most, a span counted once.

        A span is asked of twice: as title, what the item is, and as detail, what it has. Empty for an item that says
        nothing.
        """
        structured = [] if self.sources == "spans" else list(self._structured(item))
        named = dict.fromkeys(structured)
        room = self.most - len(named)
        if self.sources == "structured" or room <= 0:
            return tuple(named)[: self.most]
        for span in self._spans(item)[:room]:
            named[Entity(TITLE, span)] = None
            named.update({Entity(DETAIL, span): None} if DETAIL in self.types else {})
        return tuple(named)

    def _structured(self, item: Item) -> Iterator[Entity]:
        for path in str(item.get("category") or "").split(VALUE_SEPARATOR)[:2]:
            levels = [level for level in path.split(PATH_SEPARATOR.strip()) if level.strip()]
            yield from entities_of(CATEGORY, levels[:-3:-1])
        if BRAND in self.types:
            yield from entities_of(BRAND, str(item.get("brand") or "").split(VALUE_SEPARATOR)[:2])
        given = attributes(item)
        for name in (*KIND_TYPES, *self.types):
            if name in given and name != BRAND:
                yield from list(entities_of(name, given[name]))[:MOST_OF_TYPE]

    def _spans(self, item: Item) -> list[str]:
        """Spans of the title, then of the description while there are fewer than ENOUGH_SPANS."""
        found = dict.fromkeys(spans(str(item.get(TEXT) or item.get("title") or ""), self.phrases))
        if len(found) < ENOUGH_SPANS:
            more = dict.fromkeys(spans(str(item.get("description") or "")[:400], self.phrases))
            found.update(dict.fromkeys(list(more)[: ENOUGH_SPANS - len(found)]))
        return list(found)[:MOST_SPANS]


def entities_of(type_: str, values: Sequence[str]) -> Iterator[Entity]:
    """One entity for each value that says something."""
    for value in values:
        text = spelled(value)
        if text:
            yield Entity(type_, text)


@lru_cache(maxsize=200_000)
def spelled(text: str) -> str:
    """The normal form of an entity: one spelling, at most CHARACTERS long.

    >>> spelled("  Dark   Grey "), len(spelled("long " * 60))
    ('dark gray', 59)
    """
    return shortened(" ".join(SPELLINGS.get(word, word) for word in normal_text(text).strip(" .,;:-").split()))


def shortened(text: str) -> str:
    """At most CHARACTERS of a text, cut at a word where it has one."""
    if len(text) <= CHARACTERS:
        return text
    return text[: CHARACTERS + 1].rpartition(" ")[0] or text[:CHARACTERS]


def spelled_type(name: str) -> str:
    """The normal form of an attribute's name.

    >>> spelled_type("Product_Colour"), spelled_type("product_type")
    ('color', 'product type')
    """
    text = spelled(name.replace("_", " "))
    bare = text.removeprefix("product ")
    return text if text in KIND_TYPES else bare


def attributes(item: Item) -> Mapping[str, list[str]]:
    """Values by type in normal form. Of lists and of "a, b; c" each value; of true and false "yes" and "no"; numbers
    alone and texts of more than twice CHARACTERS are left out.
    """
    given = item.get("attributes") or "{}"
    return _attributes(given) if isinstance(given, str) else _attributes_of(given)


@lru_cache(maxsize=50_000)
def _attributes(text: str) -> Mapping[str, list[str]]:
    content = parse(text, f"attributes {text[:60]!r}")
    return _attributes_of(content if isinstance(content, dict) else {})


def _attributes_of(content: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in content.items():
        values = [one for part in (value if isinstance(value, list) else [value]) for one in _values(part)]
        if values:
            found.setdefault(spelled_type(str(name)), []).extend(values)
    return found


def _values(value: Any) -> list[str]:
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if not isinstance(value, str) or len(value) > 2 * CHARACTERS:
        return []
    return [one for one in _VALUES.split(value) if one.strip() and not _NUMBER.fullmatch(one)]


def runs(text: str) -> list[tuple[str, list[str]]]:
    """Runs of words that no punctuation or stop word parts, each with the marker before it ("" for none).

    >>> runs("Phone case, black, for iPhone 7 and 8")
    [('', ['phone', 'case']), ('', ['black']), ('for', ['iphone', '7']), ('', ['8'])]
    """
    normal = normal_text(text)
    found: list[tuple[str, list[str]]] = []
    marker, words, end = "", list[str](), 0
    for match in _WORD.finditer(normal):
        word, parted = match[0], bool(normal[end : match.start()].strip())
        if (parted or word in STOPS or word in MARKERS) and words:
            found.append((marker, words))
            marker, words = "", []
        marker = word if word in MARKERS else "" if parted else marker
        if word not in MARKERS and word not in STOPS:
            words.append(SPELLINGS.get(word, word))
        end = match.end()
    return [*found, (marker, words)] if words else found


def spans(text: str, phrases: frozenset[str]) -> list[str]:
    """The text in spans, in order: at each place the longest shared phrase, else the word; a marker stays with it.

    Numbers alone are left out.

    >>> spans("Red desk lamp with dimmer, no bulb", frozenset({"desk lamp"}))
    ['red', 'desk lamp', 'with dimmer', 'no bulb']
    """
    found = []
    for marker, words in runs(text):
        start = 0
        while start < len(words):
            sizes = range(min(LONGEST, len(words) - start), 1, -1)
            size = next((n for n in sizes if " ".join(words[start : start + n]) in phrases), 1)
            part = " ".join(words[start : start + size])
            found += [] if _NUMBER.fullmatch(part) else [spelled(f"{marker} {part}" if marker else part)]
            marker, start = "", start + size
    return found
