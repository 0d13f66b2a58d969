"""Titles that are equal but for colour, size and count: variants of one thing, where no column says so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from goodrate.catalog.normal_form import normal_text
from goodrate.retrieval.rewriting.quantities import find_measures
from goodrate.retrieval.rewriting.words import fold, folded_words

WORDS_FILE = Path(__file__).parent / "variant_words.toml"
# A thing is sold in several of these; with other measures (power, voltage, frequency) it is another thing.
SIZES = ("length_cm", "volume_ml", "mass_g", "storage_gb")
# Words that must be left beside the brand: there are many a "toner cartridge". One with a digit counts as two.
LEAST_WORDS = 3
TITLES = 1 << 15  # of which the words are remembered: the same are found again and again
LETTER_SIZES = frozenset(("xxs", "xs", "xl", "xxl", "xxxl", "2xl", "3xl", "4xl", "5xl"))
SHORT_SIZES = frozenset(("s", "m", "l"))  # at the end of a title; elsewhere they are parts of names


MODEL_NUMBER = re.compile(r"\d{4,}[a-z]")  # a monitor 2509m is not 2,509 metres long


class _Words(NamedTuple):
    """What variant_words.toml holds. colours: those that may stand alone; shades: only in front of one."""

    colours: frozenset[str]
    shades: frozenset[str]
    counts: re.Pattern[str]
    attributes: tuple[str, ...]


def title_group(item: Mapping[str, Any], attributes: Mapping[str, Any], language: str) -> tuple[str, ...] | None:
    """What the titles of variants share: brand, category, and the words that are left. None for too few of them.

    Left out are measures of length, volume, mass and storage, counts ("6 pc(s)", "pack of 3"), colours, sizes in
    letters, and what the item's own attributes say of its colour and size. Model numbers and bare numbers stay.
    language: whose rules read measures.

    >>> cable = {"title": "Velto braided USB cable, black, 1.5 m", "brand": "Velto", "category": ""}
    >>> title_group(cable, {}, "en")
    ('velto', '', 'velto', 'braided', 'usb', 'cable')
    """
    known, words = _words(), list(_title_words(item["title"], language))
    for value in _own_values(attributes):
        words = _without(words, value)
    kept = [word for place, word in enumerate(words) if not _varies(words, place, known)]
    brand = set(folded_words(item["brand"] or ""))
    if sum(2 if any(map(str.isdigit, word)) else 1 for word in kept if word not in brand) < LEAST_WORDS:
        return None
    return (normal_text(item["brand"] or ""), normal_text(item["category"] or ""), *kept)


@cache
def _words() -> _Words:
    """The words of the package's file."""
    held = tomllib.loads(WORDS_FILE.read_text(encoding="utf-8"))
    counted, before = ("|".join(re.escape(name) for name in held[key]) for key in ("counted", "count_of"))
    counts = re.compile(rf"\b\d+[ -]?(?:{counted})(?!\w)|\b(?:{before}) \d+\b")
    return _Words(frozenset(held["colours"]), frozenset(held["shades"]), counts, tuple(held["attributes"]))


@lru_cache(maxsize=TITLES)
def _title_words(title: str, language: str) -> tuple[str, ...]:
    """The words of a title but for measures and counts."""
    title = normal_text(title)
    for measure in reversed(find_measures(title, language)):
        if measure.dimension in SIZES and not MODEL_NUMBER.match(measure.text):
            title = f"{title[: measure.start]} {title[measure.end :]}"
    # a DVD+R is no DVD-R
    return tuple(folded_words(_words().counts.sub(" ", fold(title)).replace("+", " plus ")))


@lru_cache(maxsize=TITLES)
def _says_colour_or_size(name: str) -> bool:
    """Whether an attribute of this name does: product_colour and size_name, not colour_toner_page_yield."""
    words = folded_words(name.removesuffix("name"))
    return bool(words) and words[-1].endswith(_words().attributes)


def _own_values(attributes: Mapping[str, Any]) -> Iterator[list[str]]:
    """The words of what an item says of its colour and size."""
    for name, value in attributes.items():
        if _says_colour_or_size(name):
            for one in value if isinstance(value, list) else [value]:
                yield folded_words(f"{one:g}" if isinstance(one, float) else str(one))


def _without(words: list[str], phrase: Sequence[str]) -> list[str]:
    """The words but for those of a phrase, where it stands in them."""
    size = len(phrase)
    at = next((n for n in range(len(words) - size + 1) if phrase and words[n : n + size] == list(phrase)), None)
    return words if at is None else words[:at] + words[at + size :]


def _varies(words: Sequence[str], place: int, known: _Words) -> bool:
    """Whether the word at a place is a colour or a size."""
    word, last = words[place], place == len(words) - 1
    if word in known.shades:
        return not last and words[place + 1] in known.colours
    return word in known.colours or word in LETTER_SIZES or (last and word in SHORT_SIZES)
