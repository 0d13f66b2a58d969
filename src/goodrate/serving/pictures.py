"""Where the page may load pictures from: the hosts that the catalogue's own items name, over https, and no others."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import polars as pl

from goodrate.serving.candidates import ItemStore

MANY = 20  # hosts; a catalogue with more may load pictures from any, and the header stays short
# Nothing else of an address gets into the header: no user name, no character that ends a directive.
_ORIGIN = r"(?i)^(https://[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[0-9]{1,5})?)(?:[/?#]|$)"


def picture_hosts(addresses: pl.Series) -> list[str]:
    """The origins of https addresses, in lower case and in order; at most MANY, and ["https:"] for more.

    Plain http, which others on the way can read and change, paths and anything else name none.

    >>> picture_hosts(pl.Series(["https://cdn.example/1.png", "HTTPS://CDN.example", "http://a.example/", "b.png"]))
    ['https://cdn.example']
    """
    origins = addresses.str.extract(_ORIGIN).drop_nulls().str.to_lowercase().unique().sort().to_list()
    return origins if len(origins) <= MANY else ["https:"]


class PicturePolicy:
    """The img-src of the page for the index that is served. Safe to call from many threads.

    The items are read when the page is asked for and the index has changed since.
    """

    def __init__(self, store: Callable[[], ItemStore]) -> None:
        """store: the one that is served now; may raise ValueError, OSError or RuntimeError while there is none."""
        self._store, self._lock = store, threading.Lock()
        self._known: tuple[ItemStore, int, list[str]] | None = None

    def sources(self) -> str:
        """What img-src allows: this server, data: addresses, and the hosts of the catalogue's pictures."""
        return " ".join(["'self'", "data:", *self._hosts()])

    def _hosts(self) -> list[str]:
        with self._lock:
            try:
                store = self._store()
                version = store.version
                if self._known is None or self._known[0] is not store or self._known[1] != version:
                    self._known = (store, version, picture_hosts(store.images()))
                return self._known[2]
            except (ValueError, OSError, RuntimeError):
                return []  # the page says what is wrong with the index; it has no pictures to show


def with_pictures(policy: str, sources: str) -> str:
    """A content security policy with other sources of pictures.

    >>> with_pictures("default-src 'none'; img-src 'self'; base-uri 'none'", "'self' https://a.example")
    "default-src 'none'; img-src 'self' https://a.example; base-uri 'none'"
    """
    return re.sub(r"img-src [^;]*", lambda _: f"img-src {sources}", policy)
