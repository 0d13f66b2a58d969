"""Candidates of a real PostgreSQL with pgvector, where pgserver brings one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from fastapi.testclient import TestClient

from goodrate.serving.http import create_app
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.sources.opening import open_source
from goodrate.serving.sources.protocol import SourceUnavailable
from goodrate.serving.sources.searching import SourceSearcher, SourceStore
from serving_shop import fake_judge

psycopg = pytest.importorskip("psycopg")
pgserver = pytest.importorskip("pgserver")

TABLE = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA IF NOT EXISTS shop;
CREATE TABLE shop."the products" (sku integer PRIMARY KEY, name text, maker text, cost numeric(9, 2), added date,
    embedding vector(2));
INSERT INTO shop."the products" VALUES
    (1, 'Road running shoes', 'Zorvo', 120.50, '2026-01-02', '[1, 0]'),
    (2, 'Red kettle', 'Brumm', 35, '2026-01-03', '[0, 1]'),
    (3, 'Trail running shoes, red', 'Zorvo', NULL, NULL, '[3, 4]');
"""
OF = "id=sku&title=name&brand=maker&price=cost&table=shop.the+products"


class Pointing:
    """Every query is the vector (1, 0)."""

    dimension = 2

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        return np.asarray([[1.0, 0.0]] * len(texts), dtype=np.float32)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """postgresql:///postgres?host=FOLDER with the table in it."""
    folder = tempfile.mkdtemp(prefix="goodrate-pg-")  # not below pytest's folder: the server's own user must reach it
    with pgserver.get_server(folder) as server:
        uri = server.get_uri()
        host = parse_qs(urlsplit(uri).query)["host"][0]
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(TABLE)
        yield f"postgresql://postgres@/postgres?host={host}&{OF}"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("metric", "scores"),
    [
        # cosines of (1, 0) with (1, 0), (3, 4) and (0, 1); distances 0, sqrt(4 + 16) and sqrt(2); products 1, 3 and 0
        ("cosine", {"1": 1.0, "3": 0.6, "2": 0.0}),
        ("l2", {"1": 0.0, "2": -(2**0.5), "3": -(20**0.5)}),
        ("inner", {"3": 3.0, "1": 1.0, "2": 0.0}),
    ],
)
def test_nearest_vectors_come_first(address: str, metric: str, scores: dict[str, float]) -> None:
    source, _ = open_source(f"{address}&vector=embedding&metric={metric}", Pointing())
    found = source.search("shoes", 3)
    assert [one.id for one in found] == list(scores)
    assert [one.score for one in found] == pytest.approx(list(scores.values()))
    assert len(source.search("shoes", 2)) == 2 and source.count() == 3
    first = next(one for one in found if one.id == "1")
    assert first.fields == {"name": "Road running shoes", "maker": "Zorvo", "cost": 120.5, "added": "2026-01-02"}


def test_words_are_found_any_of_them(address: str) -> None:
    source, _ = open_source(f"{address}&text=name,maker&language=english")
    assert [one.id for one in source.search("red shoe", 5)] == ["3", "1", "2"]  # both words, then one of them
    assert [one.id for one in source.search("zorvo", 5)] == ["1", "3"]
    assert source.search("", 5) == source.search("'; DROP TABLE x; --", 5) == []
    assert [one.id for one in source.fetch(["2", "9", "x"])] == ["2"]


def test_a_table_is_served_and_judged(address: str) -> None:
    source, where = open_source(f"{address}&vector=embedding", Pointing())
    store = SourceStore(source, where.columns)
    pipeline = SearchPipeline(store, SourceSearcher(source, store), fake_judge(), (source.name,))
    client = TestClient(create_app(pipeline))
    results = client.get("/search?query=shoes").json()["results"]
    assert [(one["item_id"], one["verdict"]["tier"]) for one in results] == [("1", "Good"), ("3", "Good"), ("2", "Bad")]
    assert results[0]["item"]["price"] == 120.5 and results[0]["item"]["attributes"] == {"added": "2026-01-02"}


def test_a_connection_that_was_closed_is_made_anew(address: str) -> None:
    source, _ = open_source(f"{address}&text=name")
    assert source.count() == 3
    held: Any = source
    pid = held._connection.info.backend_pid
    with psycopg.connect(f"postgresql://postgres@/postgres?{urlsplit(address).query.split('&')[0]}") as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert source.count() == 3


def test_what_is_wrong_is_said(address: str) -> None:
    with pytest.raises(SourceUnavailable, match='relation "nothing" does not exist'):
        open_source(address.replace("shop.the+products", "nothing") + "&text=name")[0].count()
    with pytest.raises(SourceUnavailable, match="different vector dimensions 2 and 1"):
        open_source(f"{address}&vector=embedding", type("One", (), {"encode_queries": lambda *_: [[1.0]]})())[0].search(
            "a", 1
        )
    with pytest.raises(SourceUnavailable, match="connection"):
        open_source(f"postgresql://127.0.0.1:1/x?{OF}&text=name")[0].count()
