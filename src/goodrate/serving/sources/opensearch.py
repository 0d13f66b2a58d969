"""OpenSearch and Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from goodrate.serving.sources.http_engine import JsonEngine
from goodrate.serving.sources.protocol import Address, Candidate

KNOWN = ("fields", "body", "tls", "timeout")
PORT = 9200
QUERY, SIZE = "{{query}}", "{{size}}"


class OpenSearchSource:
    """An index. fields: those that are searched, with weights (title^3,description); body: a file with the whole body
    of _search, in which "{{query}}" and "{{size}}" stand for what is asked; id: the field of the id, _id unless said.
    """

    def __init__(self, address: Address) -> None:
        """Raises ValueError for a body that is no JSON object or does not name the query."""
        self.name, self.most = address.scheme, 10_000
        self._engine, self._index = JsonEngine(address), address.path
        self._id = address.own.get("id", "_id")
        self._body = _body(address)

    def search(self, query: str, k: int) -> list[Candidate]:
        """The hits of _search."""
        body = _filled(self._body, query, k)
        return self._hits({"size": k, **body})

    def fetch(self, ids: Sequence[str]) -> list[Candidate]:
        """By _id, or by the field that is the id."""
        wanted = {"ids": {"values": list(ids)}} if self._id == "_id" else {"terms": {self._id: list(ids)}}
        return self._hits({"size": len(ids), "query": wanted})

    def count(self) -> int:
        """Of the whole index."""
        return int(self._engine.ask("GET", f"/{self._index}/_count")["count"])

    def _hits(self, body: dict[str, Any]) -> list[Candidate]:
        found = self._engine.ask("POST", f"/{self._index}/_search", json=body)["hits"]["hits"]
        return [self._candidate(hit) for hit in found]

    def _candidate(self, hit: dict[str, Any]) -> Candidate:
        fields = hit.get("_source") or {}
        own = hit["_id"] if self._id == "_id" else fields.get(self._id)
        rest = {name: value for name, value in fields.items() if name != self._id}
        return Candidate(str(own), float(hit.get("_score") or 0.0), rest)


def _body(address: Address) -> dict[str, Any]:
    """The body of a search with places for what is asked."""
    file = address.own.get("body")
    if file is None:
        fields = address.own.get("fields")
        searched = {"fields": fields.split(",")} if fields else {}
        return {"query": {"multi_match": {"query": QUERY, "lenient": True, **searched}}, "size": SIZE}
    try:
        body = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(body, dict) or QUERY not in json.dumps(body):
        raise ValueError(f'{file}: expected the body of a _search, in which "{QUERY}" stands for the query')
    return body


def _filled(part: Any, query: str, size: int) -> Any:
    """A body with the query and the size in their places."""
    if isinstance(part, dict):
        return {name: _filled(value, query, size) for name, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, query, size) for value in part]
    if part == SIZE:
        return size
    return part.replace(QUERY, query) if isinstance(part, str) else part
