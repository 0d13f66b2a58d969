"""Vespa."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from goodrate.serving.sources.http_engine import JsonEngine
from goodrate.serving.sources.protocol import Address, Candidate, SourceUnavailable

KNOWN = ("ranking", "grammar", "most", "tls", "timeout")
PORT = 8080
MOST = 400  # hits that Vespa gives unless its query profile allows more (most=N)
OWN = ("sddocname", "documentid")  # fields that are Vespa's and not the document's


class VespaSource:
    """A schema. ranking: its rank profile; grammar: how the query is read (weakAnd unless said); id: the attribute that
    is the id, id unless said."""

    name = "vespa"

    def __init__(self, address: Address) -> None:
        """Raises ValueError for a number of hits that is none."""
        self._engine, self._schema = JsonEngine(address), address.path
        self._id, self._grammar = address.own.get("id", "id"), address.own.get("grammar", "weakAnd")
        self._ranking = {"ranking": address.own["ranking"]} if "ranking" in address.own else {}
        self.most = int(address.own.get("most", MOST))

    def search(self, query: str, k: int) -> list[Candidate]:
        """What userInput finds."""
        matching = f'({{grammar: "{self._grammar}"}}userInput(@words))'
        return self._documents(matching, {"hits": k, "words": query, **self._ranking})

    def fetch(self, ids: Sequence[str]) -> list[Candidate]:
        """By the attribute of the id."""
        wanted = ", ".join(json.dumps(one) for one in ids)
        return self._documents(f"{self._id} in ({wanted})", {"hits": len(ids)})

    def count(self) -> int:
        """Of all documents of the schema."""
        return int(self._root("true", {"hits": 0})["fields"]["totalCount"])

    def _documents(self, matching: str, asked: dict[str, Any]) -> list[Candidate]:
        return [self._candidate(child) for child in self._root(matching, asked).get("children", [])]

    def _root(self, matching: str, asked: dict[str, Any]) -> dict[str, Any]:
        body = {"yql": f"select * from {self._schema} where {matching}", **asked}
        root: dict[str, Any] = self._engine.ask("POST", "/search/", json=body)["root"]
        if root.get("errors"):
            raise SourceUnavailable(f"{self._engine.address}: {json.dumps(root['errors'][0])[:300]}")
        return root

    def _candidate(self, child: dict[str, Any]) -> Candidate:
        fields = {name: value for name, value in child.get("fields", {}).items() if name not in OWN}
        own = fields.pop(self._id, None)  # without the attribute, what stands last in id:namespace:type::ID
        return Candidate(str(child["id"]).rpartition("::")[2] if own is None else str(own), child["relevance"], fields)
