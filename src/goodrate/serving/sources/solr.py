"""Solr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from goodrate.serving.sources.http_engine import JsonEngine
from goodrate.serving.sources.protocol import Address, Candidate

KNOWN = ("fields", "handler", "tls", "timeout")
PORT = 8983
SEPARATOR = "||"  # of ids in one query; no id has it


class SolrSource:
    """A core or collection. fields: those that are searched, with weights (title^3 description); handler: the request
    handler that searches, select unless said, whose own defaults hold where fields is not given."""

    name, most = "solr", 10_000

    def __init__(self, address: Address) -> None:
        self._engine, self._path = JsonEngine(address), f"/solr/{address.path}/{address.own.get('handler', 'select')}"
        self._select = f"/solr/{address.path}/select"
        self._id = address.own.get("id", "id")
        fields = address.own.get("fields")
        self._by = {"defType": "edismax", "qf": fields.replace(",", " ")} if fields else {}

    def search(self, query: str, k: int) -> list[Candidate]:
        """The documents of a query by edismax, or by the handler's own parser."""
        return self._documents(self._path, {"q": query, "rows": str(k), **self._by})

    def fetch(self, ids: Sequence[str]) -> list[Candidate]:
        """By the field of the id."""
        wanted = f"{{!terms f={self._id} separator='{SEPARATOR}'}}{SEPARATOR.join(ids)}"
        return self._documents(self._select, {"q": wanted, "rows": str(len(ids))})

    def count(self) -> int:
        """Of the whole core."""
        asked = {"q": "*:*", "rows": "0", "wt": "json"}
        return int(self._engine.ask("POST", self._select, data=asked)["response"]["numFound"])

    def _documents(self, path: str, asked: dict[str, str]) -> list[Candidate]:
        answer = self._engine.ask("POST", path, data={**asked, "fl": "*,score", "wt": "json"})
        return [self._candidate(document) for document in answer["response"]["docs"]]

    def _candidate(self, document: dict[str, Any]) -> Candidate:
        fields = {name: value for name, value in document.items() if name not in (self._id, "score", "_version_")}
        return Candidate(str(document[self._id]), float(document.get("score", 0.0)), fields)
