"""The folder of a workbench: tables of each topic, their versions, and that nothing acknowledged is lost."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from goodrate.serving.http import create_app
from goodrate.serving.parts import Parts
from goodrate.serving.workbench.store import FILE, Topic, Workbench
from serving_shop import fake_pipeline

FIRST = Topic("notes", ("CREATE TABLE notes (text TEXT NOT NULL)",))
SECOND = Topic("notes", (*FIRST.steps, "ALTER TABLE notes ADD COLUMN by TEXT NOT NULL DEFAULT ''"))


def test_a_topic_is_brought_to_its_newest_version(tmp_path: Path) -> None:
    with Workbench(tmp_path) as old:
        old.prepare(FIRST)
        old.prepare(Topic("others", ("CREATE TABLE others (text TEXT)",)))
        with old.writing() as connection:
            connection.execute("INSERT INTO notes VALUES ('kept')")
    with Workbench(tmp_path) as new:
        new.prepare(SECOND)
        new.prepare(SECOND)
        assert new.rows("SELECT * FROM notes") == [{"text": "kept", "by": ""}]
        with pytest.raises(ValueError, match="notes has version 2; this goodrate reads up to 1"):
            new.prepare(FIRST)


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with Workbench(tmp_path) as store:
        with pytest.raises(sqlite3.OperationalError):
            store.prepare(Topic("notes", (*FIRST.steps, "no SQL")))
        assert store.rows("SELECT name FROM sqlite_master WHERE name = 'notes'") == []
        store.prepare(FIRST)
        assert store.rows("SELECT * FROM notes") == []


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("no database, but a text that is long enough to be looked at as one")
    with pytest.raises(ValueError, match="is not a workbench"):
        Workbench(tmp_path)


def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path) -> None:
    code = f"""
from goodrate.serving.workbench.store import Topic, Workbench
store = Workbench({str(tmp_path)!r})
store.prepare(Topic("notes", ("CREATE TABLE notes (text TEXT NOT NULL)",)))
for number in range(1000000):
    with store.writing() as connection:
        connection.execute("INSERT INTO notes VALUES (?)", (str(number),))
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    process.wait()
    with Workbench(tmp_path) as store:
        kept = {row["text"] for row in store.rows("SELECT text FROM notes")}
    assert len(said) >= 20 and {line.strip() for line in said if line.endswith("\n")} <= kept


def test_pages_are_named_only_with_a_workbench(tmp_path: Path) -> None:
    assert TestClient(create_app(fake_pipeline())).get("/pages").json() == {"search": True, "pages": []}
    shown = TestClient(create_app(fake_pipeline(), Parts(workbench=Workbench(tmp_path)))).get("/pages").json()["pages"]
    assert {"path": "overrules/", "title": "Overrules"} in shown
    assert {"path": "compare/", "title": "Side by side"} in shown


@pytest.mark.parametrize("number", [-(2**63) - 1, -1, 2**63, 10**30])
def test_a_number_that_no_row_can_have_is_refused(tmp_path: Path, number: int) -> None:
    app = create_app(fake_pipeline(), Parts(workbench=Workbench(tmp_path)))
    client = TestClient(app, raise_server_exceptions=False)
    asked = [
        client.get(f"/compare/sets/{number}", params={"rater": "Ada"}),
        client.get(f"/compare/queries/{number}", params={"rater": "Ada"}),
        client.post("/compare/votes", json={"query_id": number, "rater": "Ada", "better": "same"}),
        client.post("/grading/votes", json={"pair": number, "rater": "Ada", "kind": "skip"}),
        client.delete(f"/overrules/{number}", params={"by": "Ada"}),
    ]
    assert [one.status_code for one in asked] == [422] * 5
    assert client.get(f"/monitoring/{number}").status_code == 404


def test_a_workbench_on_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "votes.txt").write_text("x")
    with pytest.raises(ValueError, match="is a file; a workbench is a folder"):
        Workbench(tmp_path / "votes.txt")
