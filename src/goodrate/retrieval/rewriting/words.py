"""Words as the catalogue and queries are compared by: runs of letters and digits, without case and Latin accents."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

import polars as pl

from goodrate.catalog.normal_form import composed_text
from goodrate.catalog.rendering import lexical_texts

# Vowel signs and accents that are characters of their own belong to the letter before them.
_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
WORD = re.compile(rf"[^\W_](?:[^\W_]|[{re.escape(_MARKS)}])*")
_IES = re.compile(r"(ies|ie|y)$")
_BEFORE_ES = ("se", "xe", "ze", "che", "she", "oe")
SINGULAR = frozenset(("lens",))  # ends in s as if it were a plural
SHORTEST_PLURAL = 3  # letters of words that have no plural ending: gas, usb
_ACCENTS = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")
SHORTEST_WHOLE = 4  # letters; shorter entries of a vocabulary are often pieces
MAIN_WEIGHT, OTHER_WEIGHT = 1.0, 0.1  # of a word in title, brand or category, and of one in description or attributes


def plain(text: str) -> str:
    """Text in small letters, composed: what WORD reads. Accents stay."""
    return composed_text(text).lower()


def fold(word: str) -> str:
    """What words are equal by: no case, no accents on Latin letters; other scripts keep their marks.

    >>> fold("CAFÉ"), fold("Straße"), fold("чайник")
    ('cafe', 'strasse', 'чайник')
    """
    if word.isascii():
        return word.lower()
    open_form = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", word).casefold())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", open_form))


def folded_words(text: str) -> list[str]:
    """The words of a text in order, folded.

    >>> folded_words("USB-C cables, 2 m")
    ['usb', 'c', 'cables', '2', 'm']
    """
    return [fold(word) for word in WORD.findall(plain(text))]


def comparable(text: str) -> tuple[str, ...]:
    """The folded words of a text without English plural endings: keys to compare by, not to show.

    >>> comparable("Phone Cases"), comparable("phone case"), comparable("batteries")
    (('phone', 'cas'), ('phone', 'cas'), ('batteri',))
    """
    return tuple(without_plural(word) for word in folded_words(text))


def without_plural(word: str) -> str:
    """A key that a folded English word and its plural share; a final e goes where -es could follow without it.

    >>> [without_plural(word) for word in ("boxes", "box", "sizes", "size", "movies", "movie", "lenses", "lens")]
    ['box', 'box', 'siz', 'siz', 'movi', 'movi', 'lens', 'lens']
    """
    if len(word) <= SHORTEST_PLURAL or not word.isascii() or word in SINGULAR:
        return word
    if word.endswith(("ies", "ie", "y")):
        return _IES.sub("i", word)
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word[:-1] if word.endswith(_BEFORE_ES) else word


def same_stem(word: str) -> Iterator[str]:
    """The folded word and the English forms that a stemming full text finds with it: plural, -ed, -ing."""
    yield word
    if not word.endswith("s"):  # "wireles" is no form of wireless
        yield from (word + "s", word + "es")
    elif not word.endswith("ss"):
        yield word[:-1]
    if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        yield word[:-2]
    if word.endswith("ies"):
        yield word[:-3] + "y"
    if word.endswith("y"):
        yield word[:-1] + "ies"
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 3:
            yield from (stem, stem + "e")


def whole_words(vocabulary: Iterable[str]) -> list[str]:
    """The entries of a tokenizer's vocabulary that are whole words of four letters or more: a dictionary at no cost.

    Of WordPiece those without ##, of SentencePiece and byte-level BPE those that follow a blank.
    >>> whole_words(["##lamp", "lamps", "[CLS]", "lamp", "2021", "the"]), whole_words(["▁table", "able"])
    (['lamps', 'lamp'], ['table'])
    """
    entries = list(vocabulary)
    starts = next((sign for sign in ("\u2581", "\u0120") if any(entry.startswith(sign) for entry in entries)), "")
    heads = (entry.removeprefix(starts) for entry in entries if entry.startswith(starts))
    return [word for word in heads if len(word) >= SHORTEST_WHOLE and word.isalpha()]


def catalogue_texts(items: pl.DataFrame) -> list[tuple[str, float]]:
    """Two (text, weight) of every item: title, brand and category; then description and attributes.

    items: a frame with the columns of ITEM_COLUMNS.
    """
    titles = items.select(pl.concat_str("title", "brand", "category", separator=" ; ", ignore_nulls=True))
    blank = items.with_columns(pl.lit("").alias(name) for name in ("title", "brand", "category"))
    described, attributes = lexical_texts(blank)
    main = [(text, MAIN_WEIGHT) for text in titles.to_series().to_list()]
    return main + [(" ; ".join(pair), OTHER_WEIGHT) for pair in zip(described, attributes, strict=True)]
