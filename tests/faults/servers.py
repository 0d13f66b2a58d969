"""What people say to a server, a server under load, and a stream of events, for kills.py."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from methods import ENTRIES, _acknowledged, _learned
from scenarios import Scenario, _index

LABELS = ("irrelevant", "mismatch", "related", "excellent")
FILES, ROWS = 6, 400  # of the stream of events
SAID = 20  # to a server


# ---- side-by-side votes, people's verdicts, overrides of entities: whatever was acknowledged is there


def _comparisons(folder: Path) -> Any:
    from goodrate.serving.workbench.comparisons import Comparisons, MadeOf
    from goodrate.serving.workbench.store import Workbench

    found = Comparisons(Workbench(folder / "team"))
    if not found.sets():
        number = found.begin("set", MadeOf({"name": "a"}, {"name": "b"}, 10, 0, "queries"))
        for n in range(ENTRIES):
            found.add(number, f"q{n:02d}", [{"id": f"a{n}"}], [{"id": f"b{n}"}])
        found.finish(number, 0, None)
    return found


def _votes(folder: Path) -> Callable[[int], object]:
    kept = _comparisons(folder)
    asked = sorted(kept.asked(1, "ann"), key=lambda row: row["query"])
    return lambda n: kept.vote(asked[n]["id"], "ann", ("left", "same", "right")[n % 3], f"c{n}")


def _voted(folder: Path) -> Any:
    return sorted((vote["query"], vote["label"], vote["comment"]) for vote in _comparisons(folder).votes(1))


def _overrides(folder: Path) -> Callable[[int], object]:
    from goodrate.relevance.override_file import OverrideFile
    from goodrate.relevance.overrides import Override

    file = OverrideFile(folder / "judge")

    def add(number: int) -> None:
        one = Override(verdict="support", query=f"q{number}", entity="red", note="said twice" * 20)
        if one not in file.read().override:  # it was kept, and the process killed before it could be noted
            file.add(file.read(), one, "ann")

    return add


def _overridden(folder: Path) -> Any:
    from goodrate.relevance.override_file import OverrideFile

    file = OverrideFile(folder / "judge")
    logged = {line["override"]["query"] for line in file.lines()}
    held = [one.query for one in file.read().override]
    return {"held": held, "logged": logged >= set(held)}


# ---- a server that answers searches, verdicts and reasons while people overrule and shoppers click


def _judged_index(folder: Path) -> None:
    import goodrate as gr
    from goodrate.relevance.human_judge import write_human_judge

    with suppress(SystemExit):  # of the command
        _index(folder)
    write_human_judge(folder / "judge", gr.read_judgements(folder / "labels.csv", "four_level"))


def _serve(folder: Path) -> None:
    """Start a server on what an earlier one left, load it, and say one thing after the other to it."""
    from goodrate.api.serving import Parts, listen, open_live, open_workbench, server

    _, pipeline = open_live(folder / "ix", str(folder / "judge"), online_weights=folder / "weights.toml")
    listener = listen("127.0.0.1", 0)
    made = server(pipeline, Parts(workbench=open_workbench(folder / "team")))
    threading.Thread(target=made.run, kwargs={"sockets": [listener]}, daemon=True).start()
    while not made.started:
        time.sleep(0.01)
    port, stop = listener.getsockname()[1], threading.Event()
    for number in range(3):
        threading.Thread(target=_searches, args=(port, number, stop), daemon=True).start()

    def said(number: int) -> None:
        learned = json.loads(_asked(port, "GET", "/weights"))["sessions"]
        if learned <= number:  # else it was kept, and the process killed before it could be noted
            shown = [{"item_id": f"i{n}", "position": n + 1} for n in range(4)]
            page = {"query": "red lamp", "shown": shown, "clicked": [f"i{number % 4}"]}
            _asked(port, "POST", "/clicks", {"sessions": [page]})
        told = {"query": f"q{number}", "item_id": f"i{number}", "label": LABELS[number % 4], "by": "ann"}
        _asked(port, "POST", "/overrules", told)

    _acknowledged(lambda _: said, SAID)(folder)
    stop.set()


def _searches(port: int, number: int, stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(OSError, http.client.HTTPException):
            _asked(port, "GET", f"/search?query=red+lamp+{number}&k=5&depth=5")
            _asked(port, "GET", f"/explain?query=lamp+of+{number}&item_id=i{number}")


def _asked(port: int, method: str, path: str, body: Any = None) -> bytes:
    """The answer; an assertion that it is one of 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"content-type": "application/json"} if sent else {})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, (path, answer.status, content[:300])
        return content
    finally:
        connection.close()


def _served(folder: Path) -> Any:
    """What people said and what was learned; the verdicts, which depend on what was asked when, can be read."""
    from goodrate.relevance.verdict_store import VerdictStore
    from goodrate.serving.workbench.overrules import Overrules
    from goodrate.serving.workbench.store import Workbench

    said = Overrules(Workbench(folder / "team")).listed()
    VerdictStore(folder / "ix" / "verdicts.sqlite").counts()
    learned = _learned(folder)
    return {
        "overrules": sorted((one["query"], one["item_id"], one["label"]) for one in said),
        **learned,
    }  # fmt: skip


# ---- a stream of events: every row once, whatever was killed when


def _event_files(folder: Path) -> None:
    import polars as pl

    (folder / "events").mkdir()
    for number in range(FILES):
        rows = range(number * ROWS, (number + 1) * ROWS)
        frame = pl.DataFrame({"item": [f"i{row % 97}" for row in rows], "clicked": [row % 3 == 0 for row in rows],
                              "row": [float(row) for row in rows]})  # fmt: skip
        frame.with_columns(pl.col("clicked").cast(pl.Int8)).write_parquet(folder / "events" / f"part-{number}.parquet",
                                                                          row_group_size=150)  # fmt: skip


def _read_stream(folder: Path) -> None:
    """Read on from the state that was kept with what had been read."""
    from goodrate.api.events import stream_events
    from goodrate.run_folder import write_atomic

    kept = folder / "read.json"
    stream = stream_events(folder / "events", ids=["item"], numbers=["row"], label="clicked", seed=3)
    read = json.loads(kept.read_text()) if kept.is_file() else {"batches": [], "rows": []}
    if "state" in read:
        stream.load_state_dict(read["state"])
    for batch in stream.batches(64):
        values, _ = batch.ids["item"]
        rows = [int(row) for row in batch.numbers["row"]]
        told = hashlib.sha256(values.tobytes() + batch.labels.tobytes()).hexdigest()[:16]
        read = {"batches": [*read["batches"], told], "rows": [*read["rows"], *rows], "state": stream.state_dict()}
        write_atomic(kept, json.dumps(read))


def _stream_read(folder: Path) -> Any:
    read = json.loads((folder / "read.json").read_text())
    assert sorted(read["rows"]) == list(range(FILES * ROWS)), "a row is lost or was read twice"
    return {"rows": read["rows"], "batches": read["batches"]}


SERVERS = {
    "votes": Scenario(_acknowledged(_votes), _voted),
    "overrides": Scenario(_acknowledged(_overrides), _overridden, lambda folder: (folder / "judge").mkdir()),
    "serve": Scenario(_serve, _served, _judged_index),
    "event_stream": Scenario(_read_stream, _stream_read, _event_files),
}
