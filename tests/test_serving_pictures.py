"""The page may load pictures from the hosts of the catalogue's own items over https, and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from fastapi.testclient import TestClient

import goodrate as gr
from goodrate.catalog.items import Catalog
from goodrate.serving.http import create_app
from goodrate.serving.pictures import picture_hosts
from serving_shop import fake_pipeline

SAFE = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src {}; "
REST = "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def policy(client: TestClient, path: str = "/", **headers: str) -> str:
    return str(client.get(path, headers=headers).headers["content-security-policy"])


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("https://cdn.example/a.png?w=3", ["https://cdn.example"]),
        ("https://cdn.example:8443", ["https://cdn.example:8443"]),
        ("HTTPS://CDN.Example#x", ["https://cdn.example"]),
        ("http://cdn.example/a.png", []),
        ("//cdn.example/a.png", []),
        ("pictures/a.png", []),
        ("https://cdn.example; script-src https://evil.example/", []),
        ("https://user:word@cdn.example/a.png", []),
        ("https://*.example/a.png", []),
        ("https://cdn.example'unsafe-inline'/", []),
        ("javascript:alert(1)", []),
        ("", []),
    ],
)
def test_only_a_plain_https_host_is_allowed(address: str, hosts: list[str]) -> None:
    assert picture_hosts(pl.Series([address])) == hosts


def test_many_hosts_become_any_host_over_https() -> None:
    addresses = [f"https://shop{number}.example/a.png" for number in range(21)]
    assert picture_hosts(pl.Series(addresses)) == ["https:"]
    assert len(picture_hosts(pl.Series(addresses[:20]))) == 20


def test_the_page_allows_the_hosts_of_its_catalogue_and_follows_changes(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": ["a", "b"], "title": ["lamp", "chair"], "image": ["https://one.example/a.png", ""]})
    index = gr.Index.create(tmp_path / "index", frame)
    client = TestClient(create_app(index.pipeline))
    assert policy(client) == SAFE.format("'self' data: https://one.example") + REST
    assert policy(client, "/search?query=lamp") == SAFE.format("'self' data:") + REST  # not of the API
    kept = client.get("/").headers["etag"]
    assert client.get("/", headers={"if-none-match": kept}).status_code == 304
    assert "https://one.example" in policy(client, **{"if-none-match": kept})
    new = pl.DataFrame({"id": ["c"], "title": ["table"], "image": ["https://two.example/c.png"]})
    index.store.upsert(Catalog(new), None)
    assert policy(client) == SAFE.format("'self' data: https://one.example https://two.example") + REST


def test_without_pictures_or_without_an_index_nothing_else_is_allowed(tmp_path: Path) -> None:
    assert policy(TestClient(create_app(fake_pipeline()))) == SAFE.format("'self' data:") + REST
    broken = fake_pipeline()
    broken.store.images = lambda: (_ for _ in ()).throw(OSError("the disk is gone"))  # type: ignore[attr-defined]
    answer = TestClient(create_app(broken)).get("/")
    assert answer.status_code == 200 and "img-src 'self' data:;" in answer.headers["content-security-policy"]
