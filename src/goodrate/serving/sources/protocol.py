"""What an engine has to give, and how its documents become items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

COLUMNS = ("title", "description", "brand", "category", "price", "rating", "currency", "image", "clip", "parent_id")


class SourceUnavailable(OSError):
    """An engine did not answer, or answered with an error."""


@dataclass(frozen=True)
class Candidate:
    """A document that an engine found. score: the engine's own, any real number; higher is better."""

    id: str
    score: float
    fields: Mapping[str, Any]


class CandidateSource(Protocol):
    """An engine. Safe to call from many threads; each method raises SourceUnavailable when the engine fails.

    name: of its kind, as /search tells the mode. most: candidates of one search at most.
    """

    name: str
    most: int

    def search(self, query: str, k: int) -> list[Candidate]:
        """The best k documents for a query, best first."""
        ...

    def fetch(self, ids: Sequence[str]) -> list[Candidate]:
        """The documents with these ids, in any order; those that are not there are left out."""
        ...

    def count(self) -> int:
        """How many documents there are."""
        ...


@dataclass(frozen=True)
class Address:
    """Where an engine is, of an address such as opensearch://user:password@host:9200/products?title=name&tls=true.

    path: without the first stroke. own: parameters that the kind of engine knows. columns: item column -> field.
    """

    scheme: str
    host: str
    port: int
    path: str
    user: str = ""
    password: str = ""
    own: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Without the password."""
        return f"{self.scheme}://{self.host}:{self.port}/{self.path}"

    @property
    def http(self) -> str:
        """The address of an engine that is asked over HTTP; tls=true asks it over HTTPS."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.own.get('tls') == 'true' else 'http'}://{host}:{self.port}"


def read_address(url: str, port: int, known: Sequence[str]) -> Address:
    """An address read. port: unless it says one. known: parameters of the kind, beside those that map columns.

    Raises ValueError naming the parameter that is not known, or what is missing.
    """
    parts = urlsplit(url)
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    accepted = ("id", *COLUMNS, *known)
    unknown = [name for name in named if name not in accepted]
    if unknown:
        raise ValueError(f"candidates {_shown(url)}: no parameter {unknown[0]!r}; accepted: {', '.join(accepted)}")
    path = unquote(parts.path).strip("/")
    at_host = parts.hostname or named.get("host", "")
    if not at_host or not path:
        raise ValueError(f"candidates {_shown(url)}: expected {parts.scheme}://HOST:PORT/NAME of the index")
    try:
        at = parts.port or port
    except ValueError as error:
        raise ValueError(f"candidates {_shown(url)}: {error}") from None
    columns = {name: named.get(name, name) for name in COLUMNS}
    own = {name: value for name, value in named.items() if name in known or name == "id"}
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Address(parts.scheme, at_host, at, path, user, password, own, columns)


def item_rows(candidates: Sequence[Candidate], columns: Mapping[str, str], of: str) -> Iterator[dict[str, Any]]:
    """Each document as an item row (catalog.items.ITEM_COLUMNS): mapped fields are columns, the others attributes.

    Lists of texts become one text, "a | b". of: the engine, for messages. Raises ValueError for a document without a
    title, which names the fields that it has.
    """
    mapped = set(columns.values())
    for one in candidates:
        row: dict[str, Any] = {name: _column(name, one.fields.get(source)) for name, source in columns.items()}
        if not row["title"]:
            there = ", ".join(sorted(one.fields)) or "none"
            raise ValueError(
                f"{of}: document {one.id!r} has no field {columns['title']!r} for the title; say which it is with "
                f"title=FIELD in --candidates; its fields: {there}"
            )
        others = {name: value for name, value in one.fields.items() if name not in mapped and value is not None}
        yield {"id": one.id, **row, "attributes": others}


def _column(name: str, value: Any) -> Any:
    """A field's value in the type of an item column."""
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if name in ("price", "rating"):
        try:
            return None if one is None or isinstance(one, list | dict | bool) else float(one)
        except ValueError:
            return None
    if isinstance(one, list):
        return " | ".join(str(part) for part in one if part is not None)
    return "" if one is None else str(one)


def _shown(url: str) -> str:
    """An address for messages, without a password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
