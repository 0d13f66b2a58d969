"""goodrate serve, as a process over a real index: start, answer, stop; wrong folders and taken ports."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sqlite3
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from goodrate.catalog.items import Catalog
from goodrate.cli.serve import command
from goodrate.relevance.verdict_store import TABLE
from goodrate.retrieval.store import Store
from served_process import GOODRATE, started
from serving_shop import CATALOGUE, fake_judge

COMMAND = [*GOODRATE, "serve"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "index"
    Store.create(folder, None, None).upsert(Catalog(CATALOGUE), None)
    return folder


@pytest.fixture
def server(index: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    address, process = started("serve", index)
    yield address, process
    process.kill()
    process.wait(timeout=120)


def get(url: str, path: str, **parameters: str) -> Any:
    """The JSON of an address of the server."""
    with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(parameters)}", timeout=120) as answer:
        return json.load(answer)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=600)


def test_it_answers_from_the_index_and_stops_on_interrupt(server: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = server
    assert get(url, "/healthz")["modes"] == ["lexical"] and get(url, "/healthz")["items"] == 5
    answer = get(url, "/search", query="red shoes")
    # a1 has both words, a2 to a5 have one; only the words count in an index without vectors
    assert answer["mode"] == "lexical" and answer["results"][0]["item_id"] == "a1"
    filtered = get(url, "/search", query="running", where="brand ILIKE 'zorvo' AND price <= 100")
    assert [result["item_id"] for result in filtered["results"]] == ["a1"]
    quoted = get(url, "/search", query="polish", where="brand ILIKE 'o''dare'")
    assert [result["item_id"] for result in quoted["results"]] == ["a4"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(url, "/search", query="shoes", where="colour = 'red'")
    assert refused.value.code == 400 and b"columns: price, rating (number), id, title, brand" in refused.value.read()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130


KILLING = [
    "price+" + "1+" * 900 + "1>0",  # ended the process: the engine's stack was full
    "length(repeat('a',2000000000))>0",
    "array_length(range(0,1000000000))>0",
    "length(repeat(title,100000))>0",  # the searches after it found nothing
    "price > $1",
]


def test_filters_that_ended_the_process_are_refused(server: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = server
    for where in KILLING:
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(url, "/search", query="shoes", where=where)
        assert refused.value.code == 400 and b"accepted: COLUMN" in refused.value.read(), where
    assert [one["item_id"] for one in get(url, "/search", query="kettle")["results"]] == ["a5"]
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as half:  # a body that never comes does not hold the process
        half.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("CREATE TABLE verdicts (a, b)", "table verdicts has columns a, b; expected key, status"),
        (TABLE.replace("TEXT PRIMARY KEY", "TEXT").replace(" WITHOUT ROWID", ""), "key (not in the primary key)"),
        ("PRAGMA user_version = 9", "has schema version 9; this goodrate reads up to 3"),
        (None, "is not a verdict store: file is not a database"),
    ],
)
def test_a_file_that_holds_no_verdicts_ends_the_start(
    index: Path, tmp_path: Path, content: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "verdicts.sqlite"
    if content is None:
        file.write_text("query,item\n" * 100)
    else:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute(content)
            connection.commit()
    monkeypatch.setattr("goodrate.api.judging.named_texts", lambda *_: None)
    monkeypatch.setattr("goodrate.api.judging.open_judge", lambda *_: fake_judge())
    answer = CliRunner().invoke(command, [str(index), "--model", "judge", "--verdicts", str(file), "--port", "0"])
    assert isinstance(answer.exception, ValueError)  # exit 2, see test_bad_input.py
    assert said in str(answer.exception) and str(file) in str(answer.exception)


def test_a_taken_port_is_said_before_anything_is_loaded(index: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(str(index), "--port", str(port))
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr and "--port" in ended.stderr


def test_a_folder_without_an_index_exits_2(tmp_path: Path) -> None:
    ended = run(str(tmp_path), "--port", "0")
    assert ended.returncode == 2 and "no index in" in ended.stderr and "Traceback" not in ended.stderr


def test_an_address_that_others_reach_is_refused_without_tokens(index: Path) -> None:
    ended = run(str(index), "--host", "0.0.0.0", "--port", "0")
    assert ended.returncode == 2 and "--token-file FILE" in ended.stderr and "--insecure" in ended.stderr


def test_tokens_ids_and_json_lines_of_a_whole_server(index: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("search a-token-for-the-shop shop\n", encoding="utf-8")
    asked = ["--host", "0.0.0.0", "--port", "0", "--token-file", str(tmp_path / "tokens.txt"), "--log-format", "json"]
    process = subprocess.Popen([*COMMAND, str(index), *asked], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while "not encrypted" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    port = int(re.search(r"http://0\.0\.0\.0:(\d+)", said).group(1))  # type: ignore[union-attr]
    url = f"http://127.0.0.1:{port}"
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(url, "/search", query="red shoes")
    assert refused.value.code == 401
    token = {"Authorization": "Bearer a-token-for-the-shop", "X-Request-ID": "mine-3"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/search?query=shoes", headers=token), timeout=120) as ok:
        assert ok.headers["x-request-id"] == "mine-3" and json.load(ok)["results"]
    process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in said.splitlines() + process.stderr.read().splitlines()]  # and nothing else
    assert {one["logger"] for one in lines[:2]} == {"goodrate.serve"}
    assert process.wait(timeout=120) == -signal.SIGTERM
    assert [(one["status"], one.get("user")) for one in lines[2:]] == [(401, None), (200, "shop")]
    assert lines[3]["request_id"] == "mine-3"
