"""Identifiers: model numbers, article numbers and EANs, of items and in queries, in one normal form.

Somebody who types `DLM63090` wants that item and no other. Hyphens, blanks, case and full-width letters are ignored:
`DLM-63090`, `dlm 63090` and `DLM63090` are one identifier.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import polars as pl

from goodrate.catalog.normal_form import composed, composed_text

SHORTEST = 5  # letters and digits; shorter ones ("a4", "usb3", "5ghz") are words like others
LONGEST = 40
WORDS_JOINED = 3  # neighbouring words of a query that may be one identifier: "DLM 63090", "006 R 90321"
# Attributes that hold identifiers, whatever they look like. Names as catalogues and product feeds write them.
ATTRIBUTES = ("ean", "gtin", "upc", "isbn", "asin", "sku", "mpn", "model", "model_number", "part_number")
_NAMED = re.compile("|".join(name.split("_")[0] for name in ATTRIBUTES), re.IGNORECASE)
_CHUNK = r"[0-9A-Za-z]+(?:[-./_][0-9A-Za-z]+)*"  # a word of a title with what joins its parts
_QUANTITY = re.compile(r"\d+(x\d+)*(mm|cm|m|km|ft|in|inch|mg|g|kg|oz|lbs?|ml|cl|l|[kmgt]bs?|[kmg]bps|[kmg]?hz|k?w|wh|"
                       r"k?v|m?ah|mp|dpi|rpm|p|fps|px|pcs?|pack|port|pin|bit|st|nd|rd|th)?")  # fmt: skip


def normal_identifier(text: str) -> str:
    """Letters and digits alone, in lower case and their plain form.

    >>> normal_identifier("006R-90321"), normal_identifier("\\uff24LM 63090")
    ('006r90321', 'dlm63090')
    """
    return "".join(sign for sign in composed_text(text).casefold() if sign.isalnum())


def is_identifier(normal: str) -> bool:
    """Whether a normalised word looks like one: digits, and no mere number, year or quantity.

    >>> [is_identifier(word) for word in ("dlm63090", "4016138712345", "2019", "500gb", "laptop", "a4")]
    [True, True, False, False, False, False]
    """
    if not SHORTEST <= len(normal) <= LONGEST or not any(sign.isdigit() for sign in normal):
        return False
    return len(normal) >= 8 if normal.isdigit() else not _QUANTITY.fullmatch(normal)


def query_identifiers(query: str) -> list[str]:
    """What in a query may be an identifier: its words, and up to three neighbours as one, in order.

    >>> query_identifiers("philips DLM 63090")
    ['philipsdlm63090', 'dlm63090']
    """
    words = [word for word in map(normal_identifier, query.split()) if word]
    starts = range(len(words))
    joined = ("".join(words[i : i + n]) for i in starts for n in range(WORDS_JOINED, 0, -1) if i + n <= len(words))
    return list(dict.fromkeys(word for word in joined if is_identifier(word)))


def item_identifiers(frame: pl.DataFrame) -> list[str]:
    """The identifiers of each item, separated by blanks: its id, what its title holds, and those of ATTRIBUTES.

    frame: id, title, attributes (compact JSON). A word of a title with hyphens counts whole and in its parts.
    """
    titles = composed(frame["title"].fill_null("")).str.extract_all(_CHUNK).to_list()
    named = frame["attributes"].fill_null("").to_list() if "attributes" in frame.columns else [""] * len(frame)
    return [
        " ".join(dict.fromkeys([normal_identifier(item), *_of_title(chunks), *_of_attributes(attributes)]))
        for item, chunks, attributes in zip(frame["id"].to_list(), titles, named, strict=True)
    ]


def _of_title(chunks: list[str]) -> Iterator[str]:
    """Words of a title that look like identifiers."""
    for chunk in chunks:
        for word in (chunk, *re.split(r"[-./_]", chunk)):
            normal = normal_identifier(word)
            if is_identifier(normal):
                yield normal


def _of_attributes(attributes: str) -> Iterator[str]:
    """Values of attributes that hold identifiers by their names."""
    if not _NAMED.search(attributes):  # most have none: not parsed
        return
    for name, value in json.loads(attributes).items():
        if name.lower().replace(" ", "_").replace("-", "_") not in ATTRIBUTES:
            continue
        for part in value if isinstance(value, list) else [value]:
            normal = normal_identifier(str(part))
            if 3 <= len(normal) <= LONGEST and any(sign.isdigit() for sign in normal):
                yield normal
