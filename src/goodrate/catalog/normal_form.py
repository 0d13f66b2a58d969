"""One form of a text for comparing, in search, filters and facets; what is shown stays as it was read."""

from __future__ import annotations

import re
import unicodedata

import polars as pl

# What NFKC would glue to the word before it: "Velcro\u2122" as "VelcroTM", "2\u00bd" as "21/2".
_MARKS = "[\u2122\u2120]"
_FRACTION = "([0-9])([\u00bc-\u00be\u2150-\u215e])"
_BLANKS = r"[\s\x1c-\x1f]+"  # those that str.split knows
_SEPARATE = re.compile(f"{_MARKS}|{_FRACTION}")


def composed(texts: pl.Series) -> pl.Series:
    """Texts whose letters are written in one way: full-width, composed and ligatures alike (NFKC); case stays.

    >>> composed(pl.Series(["\uff35\uff33\uff22", "Cafe\u0301", "Velcro\u2122 2\u00bd m\u00b2"])).to_list()
    ['USB', 'Caf\u00e9', 'Velcro  2 1\u20442 m2']
    """
    wide = texts.str.len_bytes() != texts.str.len_chars()
    if not wide.any():
        return texts
    apart = texts.str.replace_all(_MARKS, " ").str.replace_all(_FRACTION, "${1} ${2}")
    return apart.str.normalize("NFKC")


def composed_text(text: str) -> str:
    """One text as composed gives it."""
    if text.isascii():
        return text
    apart = _SEPARATE.sub(lambda found: f"{found[1]} {found[2]}" if found[1] else " ", text)
    return unicodedata.normalize("NFKC", apart)


def normal_form(texts: pl.Series) -> pl.Series:
    """Texts as they are compared: full-width and composed letters as one (NFKC), lower case, blanks as one space.

    >>> normal_form(pl.Series(["ＨＰ  Omen", "Cafe\u0301"])).to_list()
    ['hp omen', 'café']
    """
    return composed(texts).str.to_lowercase().str.replace_all(_BLANKS, " ").str.strip_chars()


def normal_text(text: str) -> str:
    """The normal form of one text.

    >>> normal_text("Ｃａｆé")
    'café'
    """
    return " ".join(composed_text(text).lower().split())
