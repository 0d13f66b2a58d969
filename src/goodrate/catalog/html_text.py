"""The text of what shops paste from their pages: without tags, scripts, styles and comments, entities decoded once.

Whole columns at a time, by the engine's regular expressions: html.parser takes fifteen times as long, and a browser's
parser also eats what is no HTML in a title, such as `<Model X>` or `x<y and y>z`.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator
from html.entities import html5
from typing import Any

import polars as pl

from goodrate.strict_json import compact, parse

# Elements that stand within a word or line; every other one ends a word.
INLINE = """a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr q s samp small span
    strike strong sub sup time tt u var wbr""".split()  # noqa: SIM905
BLOCK = """address applet area article aside audio base blockquote body br button canvas caption center col colgroup
    datalist dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5
    h6 head header hgroup hr html iframe img input legend li link main map menu meta meter nav noscript object ol
    optgroup option output p param path picture pre progress section select slot source svg script style summary table
    tbody td template textarea tfoot th thead title tr track ul video""".split()  # noqa: SIM905
UNSEEN = ("script", "style", "template", "head", "svg")  # with all that is in them, up to the first end tag
TEXTS = ("title", "description", "brand", "category")

_INSIDE = r"""(?:[\s/](?:"[^"<]*"|'[^'<]*'|[^<>"'])*|[\s/][^<>]*)?>"""  # of a tag, behind its name


def _any(names: list[str]) -> str:
    return "|".join(names)


_BLOCK_TAG = rf"(?i)</?(?:{_any(BLOCK)}){_INSIDE}|<!doctype[^<>]*>|<\?xml[^<>]*>|<!\[[^\[\]<>]*\]>"
_INLINE_TAG = rf"(?i)</?(?:{_any(INLINE)}){_INSIDE}"
# Texts that were cut to a length end in half a tag; a single letter behind "<" may be no tag: "a <b".
_LONG = _any([name for name in [*INLINE, *BLOCK] if len(name) > 1])
_CUT = rf"(?i)(?:</(?:{_any([*INLINE, *BLOCK])})|<(?:{_LONG})|<(?:{_any([*INLINE, *BLOCK])})\s[^<>]*=[^<>]*)\s*$"
_HIDDEN = "|".join(rf"<{name}(?:\s(?:[^<>]*[^<>/])?)?>.*?(?:</{name}\s*>|$)" for name in UNSEEN)
_HIDDEN = rf"(?is)<!--.*?(?:-->|$)|{_HIDDEN}"
_CDATA = r"(?s)<!\[CDATA\[(.*?)(?:\]\]>|$)"
# With its semicolon: without one, "&copy" is more often a part of an address.
_ENTITY = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][0-9a-zA-Z]*);"
_MARKUP = rf"(?i)</?(?:{_any([*INLINE, *BLOCK])})(?:[\s/>]|$)|<!--|<!doctype|<!\[|<\?xml|{_ENTITY}"
_NO_LETTERS = "[\u00ad\ufeff]"  # a place where a word may be broken, and a mark of files


def html_texts(texts: pl.Series) -> pl.Series:
    """The text of pieces of HTML, blanks as one space; a text without tags and entities comes back as it is.

    Only names that HTML has are tags, and a word between & and ; only where HTML has such an entity: `a < b`, `<3`,
    `5<10` and `AT&T` stay. What stands in CDATA is read as HTML, too. Entities are decoded once.
    >>> html_texts(pl.Series(["<p>Desk &amp;amp; lamp</p>H<sub>2</sub>O, 5<10<style>p {top: 0}</style>"])).to_list()
    ['Desk &amp; lamp H2O, 5<10']
    """
    marked = texts.str.contains("[&<]").fill_null(False)
    marked = marked & texts.set(~marked, "").str.contains(_MARKUP) if marked.any() else marked
    if not marked.any():
        return texts
    return texts.clone().scatter(marked.arg_true(), _read(texts.filter(marked)))


def _read(texts: pl.Series) -> pl.Series:
    """The text of pieces that hold HTML."""
    bare = texts.str.replace_all(_CDATA, " ${1} ").str.replace_all(_HIDDEN, " ").str.replace_all(_BLOCK_TAG, " ")
    bare = bare.str.replace_all(_INLINE_TAG, "").str.replace(_CUT, "")
    found = bare.str.extract_all(_ENTITY).explode().drop_nulls().unique().to_list()
    decoded = {text: html.unescape(text) for text in found if text[1] == "#" or text[1:] in html5}
    if decoded:  # in one pass, so once
        bare = bare.str.replace_many(list(decoded), list(decoded.values()))
    return bare.str.replace_all(_NO_LETTERS, "").str.replace_all(r"\s+", " ").str.strip_chars()


def without_html(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The frame with html_texts of TEXTS and of the names and values in attributes (compact JSON objects).

    Returns it with column -> rows that changed, for columns with any.
    """
    counts: dict[str, int] = {}
    for name in (*TEXTS, "attributes"):
        if name in frame.columns:
            read = _objects(frame[name]) if name == "attributes" else html_texts(frame[name])
            counts[name] = int((read != frame[name]).sum())
            frame = frame.with_columns(read.alias(name))
    return frame, {name: count for name, count in counts.items() if count}


def _objects(attributes: pl.Series) -> pl.Series:
    """JSON objects with the text of their names and values."""
    marked = attributes.str.contains(_MARKUP).fill_null(False)
    if not marked.any():
        return attributes
    values = [parse(text) for text in attributes.filter(marked)]
    told = pl.Series(sorted(set(_strings(values))), dtype=pl.String)
    text_of = dict(zip(told, html_texts(told), strict=True))
    read = (_replaced(value, text_of) for value in values)
    kept = [compact({name: inner for name, inner in value.items() if inner != ""}) for value in read]
    return attributes.clone().scatter(marked.arg_true(), kept)


def _strings(value: Any) -> Iterator[str]:
    """Every name and text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value:
            yield from _strings(inner)
        if isinstance(value, dict):
            yield from _strings(list(value.values()))


def _replaced(value: Any, text_of: dict[str, str]) -> Any:
    """The value with other texts; a name that would meet another one stays as it was."""
    if isinstance(value, dict):
        times = Counter(text_of[name] for name in value)
        names = {name: text_of[name] if times[text_of[name]] == 1 else name for name in value}
        return {names[name]: _replaced(inner, text_of) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, text_of) for inner in value]
    return text_of[value] if isinstance(value, str) else value
