"""Several values in one column: lists of brands, categories as paths, however a shop writes them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from goodrate.catalog.items import PATH_SEPARATOR, VALUE_SEPARATOR
from goodrate.catalog.problems import BadRow
from goodrate.strict_json import compact, parse

_LIST = r"^\s*\[.*\]\s*$"
_LIST_OR_OBJECT = r"^\s*(\[.*\]|\{.*\})\s*$"
PICTURES = ("src", "url", "link", "path")  # names in an object that tell where a picture is
_ARROWS = r"\s*[>»›]+\s*"
_ARROWED = rf"[^\s>»›]{_ARROWS}[^\s>»›]"
OTHER_SEPARATORS = (" / ", "/", "|")
# A separator is that of paths when so many rows have it, with so many ends per root, whose names have one parent each.
MOST_ROWS, ENDS_PER_ROOT, ONE_PARENT, MIN_PATHS = 0.9, 2, 0.8, 5


def parsed_list(text: str) -> list[Any] | None:
    """The list that a text is, as JSON or as Python prints one; None where it is a text like others.

    >>> parsed_list('["Home", "Lighting"]'), parsed_list("['Home', 'Lighting']"), parsed_list("[NEW] lamp")
    (['Home', 'Lighting'], ['Home', 'Lighting'], None)
    """
    try:
        value = parse(text)
    except ValueError:
        try:
            value = ast.literal_eval(text.strip()) if text.lstrip().startswith(("['", '["')) else None
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def brand_texts(texts: pl.Series, rows: pl.Series) -> tuple[pl.Series, list[BadRow]]:
    """A column of brands (N,); a list is joined by VALUE_SEPARATOR, each brand once. Other lists are problems."""
    return _joined(texts, rows, "brand", lambda parts: VALUE_SEPARATOR.join(dict.fromkeys(_names(parts))))


def image_texts(texts: pl.Series, rows: pl.Series) -> tuple[pl.Series, list[BadRow]]:
    """A column of pictures (N,), of a list the first; of an object what it calls src, url, link or path."""
    return _joined(texts, rows, "image", lambda parts: _picture(parts[0]) if parts else "", objects=True)


def _picture(value: Any) -> str:
    """The address or path of a picture. TypeError where there is none."""
    told = next((value[name] for name in PICTURES if name in value), {}) if isinstance(value, dict) else value
    return "".join(_names([told]))


def category_texts(texts: pl.Series, rows: pl.Series) -> tuple[pl.Series, list[BadRow]]:
    """A column of categories (N,), lists as paths joined by PATH_SEPARATOR.

    A list of texts is one path from the root, or, when one of them holds an arrow, several paths; a list of lists is
    several.
    """
    return _joined(texts, rows, "category", _paths)


def path_texts(texts: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    """Categories (N,) with PATH_SEPARATOR between the levels, and what was read so.

    Arrows (> » ›) between names always separate levels. Where no row has one, a slash or a bar does when at least nine
    rows in ten hold it or are the beginning of another's path, there are at least five paths and twice as many as
    roots, and eight names in ten below the roots stand under one parent: "TV/Monitor" among other names stays a name.
    A bar between blanks is VALUE_SEPARATOR.
    """
    arrowed = texts.str.contains(_ARROWED).fill_null(False)
    if arrowed.any():
        read = texts.str.replace_all(_ARROWS, PATH_SEPARATOR)
        return _replaced(texts, arrowed, read)
    counts = texts.filter(texts.fill_null("") != "").value_counts(name="rows")
    several = counts.to_series(0).str.contains(VALUE_SEPARATOR, literal=True).any()
    for separator in OTHER_SEPARATORS[:-1] if several else OTHER_SEPARATORS:
        paths = {text: tuple(part.strip() for part in text.split(separator)) for text in counts.to_series(0)}
        if _is_tree(paths, dict(counts.rows())):
            named = {text: PATH_SEPARATOR.join(filter(None, path)) for text, path in paths.items()}
            read = texts.replace(named)
            return _replaced(texts, read.is_not_null(), read)
    return texts, ()


def _replaced(texts: pl.Series, where: pl.Series, read: pl.Series) -> tuple[pl.Series, tuple[str, ...]]:
    """The column with what was read in some rows, and one changed value as an example."""
    done = read.zip_with(where, texts)
    other = (done != texts).fill_null(False)
    if not other.any():
        return texts, ()
    before, after = texts.filter(other)[0], done.filter(other)[0]
    return done, (f"category: {before!r} is the path {after!r}, as {int(other.sum()):,} rows",)


def _is_tree(paths: dict[str, tuple[str, ...]], rows: dict[str, int]) -> bool:
    """Whether these values, split, look like paths of one tree."""
    deep = {path for path in paths.values() if len(path) > 1 and all(path)}
    beginnings = {path[:depth] for path in deep for depth in range(1, len(path))}
    held = sum(rows[text] for text, path in paths.items() if path in deep or path in beginnings)
    parents: dict[str, set[str]] = defaultdict(set)
    for path in deep:
        for parent, name in zip(path, path[1:], strict=False):
            parents[name].add(parent)
    single = sum(len(above) == 1 for above in parents.values())
    return (
        len(deep) >= max(MIN_PATHS, ENDS_PER_ROOT * len({path[0] for path in deep}))
        and held >= MOST_ROWS * sum(rows.values())
        and single >= ONE_PARENT * len(parents)
    )


def _joined(
    texts: pl.Series, rows: pl.Series, name: str, join: Callable[[list[Any]], str], objects: bool = False
) -> tuple[pl.Series, list[BadRow]]:
    """A column whose lists are joined, or objects as lists of one; those of what are no texts are problems."""
    marked = texts.str.contains(_LIST_OR_OBJECT if objects else _LIST).fill_null(False)
    if not marked.any():
        return texts, []
    read: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for text in texts.filter(marked).unique():
        parts = parsed_list(text if text.lstrip().startswith("[") else f"[{text}]")
        try:
            read |= {} if parts is None else {text: join(parts)}
        except TypeError:
            wrong[text] = f"a text or a list of texts, found {text[:60]}"
    bad = pl.DataFrame({"row": rows, "text": texts}).filter(pl.col("text").is_in(list(wrong)))
    return texts.replace(read) if read else texts, [BadRow(row, name, wrong[text]) for row, text in bad.rows()]


def _names(parts: Sequence[Any]) -> list[str]:
    """The texts of a list, without empty ones. TypeError for anything else in it."""
    if any(isinstance(part, (list, dict, bool)) for part in parts):
        raise TypeError(parts)
    return [text for part in parts if part is not None and (text := " ".join(str(part).split()))]


def _paths(parts: list[Any]) -> str:
    """The paths of a list, see category_texts."""
    if parts and all(isinstance(part, list) for part in parts):
        found = [PATH_SEPARATOR.join(_names(part)) for part in parts]
    else:
        names = _names(parts)
        found = names if any(sign in name for name in names for sign in ">»›") else [PATH_SEPARATOR.join(names)]
    return VALUE_SEPARATOR.join(dict.fromkeys(filter(None, found)))


# Columns that may hold lists, and what becomes of those.
LISTS = {"brand": brand_texts, "category": category_texts, "image": image_texts}


def list_attributes(attributes: pl.Series) -> pl.Series:
    """JSON objects (N,) in which a text that is a list of texts, as csv files have it, is that list."""
    marked = attributes.str.contains(r""":"\s*\[\s*(\\"|')""").fill_null(False)
    if not marked.any():
        return attributes
    read = {
        text: compact({n: _listed(v) for n, v in parse(text).items()}) for text in attributes.filter(marked).unique()
    }
    return attributes.replace(read)


def _listed(value: Any) -> Any:
    """A text that is a list of texts as that list; everything else as it is."""
    parts = parsed_list(value) if isinstance(value, str) and value.lstrip().startswith("[") else None
    return parts if parts and all(isinstance(part, (str, int, float)) for part in parts) else value
