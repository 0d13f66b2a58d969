"""A small HTTP server that answers in the form of OpenSearch, Solr or Vespa, over an invented catalogue.

The exchanges are of our own making, after the engines' documentation: what an engine is sent is kept to be looked at,
and what it answers has the shape of that engine.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PRODUCTS = [
    {"sku": "k1", "name": "Road running shoes, blue", "maker": "Zorvo", "cost": "120.5", "tags": ["road", "blue"]},
    {"sku": "k2", "name": "Red kettle", "maker": "Brumm", "cost": 35, "tags": ["red"]},
    {"sku": "k3", "name": "Trail running <b>shoes</b>", "maker": ["Zorvo"], "cost": None, "tags": []},
]
Answer = Callable[[str, str, Any], tuple[int, Any]]  # (method, path, body) -> (status, JSON)


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def found(query: str, size: int) -> list[tuple[float, dict[str, Any]]]:
    """Products by how many words of the query they have, best first."""
    scored = [(float(len(words_of(query) & words_of(product["name"]))), product) for product in PRODUCTS]
    return sorted((one for one in scored if one[0]), key=lambda one: -one[0])[:size]


def opensearch(method: str, path: str, body: Any) -> tuple[int, Any]:
    """_search with multi_match, ids and terms; _count."""
    if path == "/products/_count":
        return 200, {"count": len(PRODUCTS), "_shards": {"total": 1, "successful": 1, "failed": 0}}
    if path != "/products/_search":
        return 404, {"error": {"type": "index_not_found_exception", "reason": "no such index"}, "status": 404}
    kind, asked = next(iter(body["query"].items()))
    if kind == "ids":
        hits = [(1.0, one) for one in PRODUCTS if f"doc-{one['sku']}" in asked["values"]]
    elif kind == "terms":
        hits = [(1.0, one) for one in PRODUCTS if one["sku"] in next(iter(asked.values()))]
    else:
        hits = found(asked["query"], body["size"])
    shown = [{"_index": "products", "_id": f"doc-{one['sku']}", "_score": s, "_source": one} for s, one in hits]
    total = {"value": len(shown), "relation": "eq"}
    return 200, {"took": 2, "timed_out": False, "hits": {"total": total, "max_score": 2.0, "hits": shown}}


def solr(method: str, path: str, body: Any) -> tuple[int, Any]:
    """select with edismax and {!terms}; the form that was posted comes as a mapping of first values."""
    if not path.startswith("/solr/products/"):
        return 404, {"error": {"msg": "Can not find: " + path, "code": 404}}
    query, rows = body["q"], int(body["rows"])
    if query == "*:*":
        hits = [(1.0, one) for one in PRODUCTS]
    elif match := re.fullmatch(r"\{!terms f=sku separator='(.+)'\}(.*)", query):
        hits = [(1.0, one) for one in PRODUCTS if one["sku"] in match[2].split(match[1])]
    else:
        hits = found(query, rows)
    documents = [{**one, "_version_": 17, "score": score} for score, one in hits[:rows]]
    return 200, {
        "responseHeader": {"status": 0, "QTime": 1},
        "response": {"numFound": len(hits), "start": 0, "numFoundExact": True, "docs": documents},
    }


def vespa(method: str, path: str, body: Any) -> tuple[int, Any]:
    """/search/ with YQL: userInput, in, true."""
    if "from products " not in body["yql"]:
        return 400, {"root": {"errors": [{"code": 4, "message": "Could not resolve schema"}]}}
    if match := re.search(r"sku in \((.*)\)", body["yql"]):
        wanted = json.loads(f"[{match[1]}]")
        hits = [(0.0, one) for one in PRODUCTS if one["sku"] in wanted]
    else:
        hits = found(body["words"], body["hits"]) if "words" in body else []
    if body.get("ranking") == "broken":
        return 200, {"root": {"errors": [{"code": 12, "summary": "no rank profile 'broken'"}], "fields": {}}}
    children = [
        {"id": f"id:shop:products::{one['sku']}", "relevance": score, "source": "products",
         "fields": {**one, "documentid": f"id:shop:products::{one['sku']}", "sddocname": "products"}}
        for score, one in hits
    ]  # fmt: skip
    return 200, {"root": {"id": "toplevel", "relevance": 1.0, "fields": {"totalCount": 3}, "children": children}}


@contextmanager
def engine(answer: Answer) -> Iterator[tuple[str, list[tuple[str, str, Any]], dict[str, str]]]:
    """(host:port, what was asked so far, headers of the last request) of a running engine."""
    asked: list[tuple[str, str, Any]] = []
    headers: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            form = "urlencoded" in (self.headers.get("content-type") or "")
            body = {name: values[0] for name, values in parse_qs(sent).items()} if form else json.loads(sent or "null")
            path = urlsplit(self.path).path
            asked.append((self.command, path, body))
            headers.clear()
            headers.update(self.headers.items())
            status, given = answer(self.command, path, body)
            content = given.encode() if isinstance(given, str) else json.dumps(given).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked, headers
    finally:
        server.shutdown()
        server.server_close()
