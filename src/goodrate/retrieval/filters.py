"""The --where filter: SQL over the declared columns, checked before it runs."""

from __future__ import annotations

import re

# What --where sees. Everything else about an item lives in its attributes, which are for reading, not for filtering.
DECLARED_COLUMNS = ("id", "title", "brand", "category", "price", "rating")
HIDDEN_COLUMNS = (
    "description", "attributes", "text", "attribute_text", "text_hash", "vector",
    "_rowid", "_rowaddr", "_score", "_distance",
)  # fmt: skip

EXAMPLE = "price < 50 AND brand = 'Anker'"


def checked_filter(where: str | None) -> str | None:
    """The condition in parentheses, or None for none. Raises ValueError for a column that cannot be filtered.

    The parentheses matter: the engine's parser stops silently at a stray ')' or word and would ignore the rest.
    >>> checked_filter("price < 50")
    '(price < 50)'
    """
    if where is None:
        return None
    if not where.strip():
        raise ValueError(f"--where is empty; write a condition such as {EXAMPLE}")
    bare = re.sub(r"'(?:[^']|'')*'", "''", where)
    if "--" in bare or "/*" in bare or ";" in bare:
        raise filter_error(where, "comments and ';' are not accepted")
    depth = 0
    for sign in re.findall(r"[()]", bare):
        depth += 1 if sign == "(" else -1
        if depth < 0:
            raise filter_error(where, "a ')' closes nothing")
    hidden = [name for name in HIDDEN_COLUMNS if re.search(rf"(?<!\w){name}(?!\w)", bare, re.IGNORECASE)]
    if hidden:
        raise filter_error(where, f"column {hidden[0]!r} cannot be filtered")
    return f"({where})"


def filter_error(where: str, reason: str) -> ValueError:
    """The one message for every wrong filter: what is wrong, which columns exist, an example."""
    hint = "; texts go in single quotes" if '"' in where else ""
    return ValueError(f"--where {where!r}: {reason}{hint}; columns: {', '.join(DECLARED_COLUMNS)}; example: {EXAMPLE}")


def engine_reason(error: Exception) -> str:
    """The engine's own words without its list of all stored columns."""
    text = re.sub(r",? ?\S+\.rs:\d+(:\d+)?", "", str(error))  # where in its sources
    text = text.removeprefix("Invalid input, ").removeprefix("Schema error: ")
    parser = re.search(r"sql parser error: (.*)\)", text)
    if parser:
        return parser.group(1).replace("found: )", "found the end")
    text = re.sub(r"^.*(Invalid user input|Error during planning|invalid SQL predicate): ", "", text)
    text = text.removesuffix(")") if text.count(")") > text.count("(") else text  # of what was cut off in front
    return re.split(r"\.? Valid fields are|\n", text)[0].replace("No field named", "no column named").strip()
