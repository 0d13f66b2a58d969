"""From an address to a source of candidates."""

from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlsplit

from goodrate.extras import require
from goodrate.serving.sources.protocol import Address, CandidateSource, read_address

# scheme -> module of goodrate.serving.sources that has KNOWN, PORT and the class
ENGINES = {
    "opensearch": ("opensearch", "OpenSearchSource"),
    "elasticsearch": ("opensearch", "OpenSearchSource"),
    "solr": ("solr", "SolrSource"),
    "vespa": ("vespa", "VespaSource"),
    "postgresql": ("postgres", "PostgresSource"),
}


def open_source(url: str, encoder: Any = None) -> tuple[CandidateSource, Address]:
    """The source of an address. encoder: reads queries where they are searched by vectors.

    Raises ValueError for an address that cannot be read, which names what is accepted.
    """
    scheme = urlsplit(url).scheme
    if scheme not in ENGINES:
        accepted = ", ".join(f"{name}://" for name in ENGINES)
        raise ValueError(f"candidates {scheme or url[:40]!r}: expected an address that begins with {accepted}")
    require("candidates", f"--candidates {scheme}://")
    module, name = ENGINES[scheme]
    engine = importlib.import_module(f"goodrate.serving.sources.{module}")
    address = read_address(url, engine.PORT, engine.KNOWN)
    made = getattr(engine, name)
    source: CandidateSource = made(address, encoder) if scheme == "postgresql" else made(address)
    return source, address
