"""An item as typed fields in plain words, from a catalogue row or its one-line listing, for plain matching."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goodrate.relevance.pairs import TEXT, Item

Phrase = tuple[str, ...]
WORD = re.compile(r"\d+(?:[.,]\d+)+|\w+")
SEGMENT = re.compile(r"\s[-|/]\s|[,;:(|]")  # what ends the first noun phrase of a title
PATH = re.compile(r"[>/|]")
DESCRIPTION = 6  # a field of a listing with so many words behind its first is the description
YES, NO = ("yes",), ("no",)
TRUTHS = {"true": YES, "yes": YES, "false": NO, "no": NO}


@dataclass(frozen=True)
class TypedItem:
    """Words are lower case, as written. price: the shop's currency, None = not told. kind: the last part of the
    category, () = none. name: the title up to its first comma or bracket. stems: of all words."""

    title: Phrase
    name: Phrase
    brand: Phrase
    kind: Phrase
    price: float | None
    attributes: Mapping[str, tuple[Phrase, ...]]
    stems: frozenset[str]


def words_of(text: str) -> Phrase:
    """The words of a text in lower case, decimal numbers whole.

    >>> words_of("Desk lamps, 2.5 m, glass")
    ('desk', 'lamps', '2.5', 'm', 'glass')
    """
    return tuple(WORD.findall(text.lower()))


def stems(phrase: Phrase) -> Phrase:
    """What words are compared by: a plural s dropped, so that lamps and lamp are one word.

    >>> stems(("glass", "lamps"))
    ('glass', 'lamp')
    """
    return tuple(_singular(word) for word in phrase)


def _singular(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word


def attribute_name(name: str) -> str:
    """A name as one word, because a step names attributes by one word.

    >>> attribute_name("Arm length")
    'arm_length'
    """
    return "_".join(WORD.findall(name.lower())) or "attribute"


def typed_item(item: Item) -> TypedItem:
    """The fields of a catalogue row, or of a bare text read as a listing."""
    return from_listing(str(item[TEXT])) if TEXT in item else from_row(item)


def from_row(row: Mapping[str, Any]) -> TypedItem:
    """The fields of a catalogue row (DESIGN section 7); attributes are a JSON object or a mapping."""
    raw = row.get("attributes") or {}
    named: Mapping[str, Any] = json.loads(raw) if isinstance(raw, str) else raw
    attributes = {attribute_name(name): _values(value) for name, value in named.items() if value not in (None, "", [])}
    category = PATH.split(str(row.get("category") or ""))[-1]
    texts = (str(row.get("title") or ""), str(row.get("brand") or ""), category, str(row.get("description") or ""))
    return _item(texts, row.get("price"), attributes)


def from_listing(text: str) -> TypedItem:
    """The fields of a listing (relevance.listing): what it calls brand, category and price, else `name value`.

    >>> item = from_listing("velto 3 jacket ; brand kira ; price 40 ; color red")
    >>> item.price, item.brand, dict(item.attributes)
    (40.0, ('kira',), {'color': (('red',),)})
    """
    title, *fields = (part.strip() for part in text.split(" ; "))
    named: dict[str, str] = {}
    attributes: dict[str, tuple[Phrase, ...]] = {}
    other = []
    for field in fields:
        name, _, value = field.partition(" ")
        if name in ("brand", "category", "price"):
            named[name] = value
        elif value and len(value.split()) < DESCRIPTION:
            attributes[attribute_name(name)] = _values(value.split(", "))
        else:
            other.append(field)
    texts = (title, named.get("brand", ""), PATH.split(named.get("category", ""))[-1], " ".join(other))
    return _item(texts, named.get("price"), attributes)


def _item(texts: tuple[str, str, str, str], price: Any, attributes: dict[str, tuple[Phrase, ...]]) -> TypedItem:
    """texts: title, brand, category, and all other text."""
    title, brand, category, other = texts
    values = (word for phrases in attributes.values() for phrase in phrases for word in phrase)
    item_stems = frozenset(stems((*words_of(" ".join(texts)), *values)))
    name = words_of(SEGMENT.split(title)[0])
    return TypedItem(words_of(title), name, words_of(brand), words_of(category), _number(price), attributes, item_stems)


def _number(price: Any) -> float | None:
    try:
        return None if price is None else float(price)
    except ValueError:
        return None


def _values(value: Any) -> tuple[Phrase, ...]:
    """Every value of an attribute as a phrase; true and false as yes and no."""
    many = value if isinstance(value, list) else [value]
    phrases = (TRUTHS.get(str(v).lower()) or words_of(str(v)) for v in many)
    return tuple(phrase for phrase in phrases if phrase)


def contains(phrase: Phrase, part: Phrase) -> bool:
    """Whether `part` stands in `phrase` as neighbouring words, plurals aside."""
    whole, piece = stems(phrase), stems(part)
    return any(whole[i : i + len(piece)] == piece for i in range(len(whole) - len(piece) + 1))
