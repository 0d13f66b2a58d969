"""One form of a text for comparing, in search, filters and facets; what is shown stays as it was read."""

from __future__ import annotations

import unicodedata

import polars as pl


def normal_form(texts: pl.Series) -> pl.Series:
    """Texts as they are compared: full-width and composed letters as one (NFKC), lower case, blanks as one space.

    >>> normal_form(pl.Series(["ＨＰ  Omen", "Cafe\u0301"])).to_list()
    ['hp omen', 'café']
    """
    return texts.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def normal_text(text: str) -> str:
    """The normal form of one text.

    >>> normal_text("Ｃａｆé")
    'café'
    """
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())
