"""A server under hours of mixed load: memory, open files and threads over time, and what was not answered as it should.

python benchmarks/soak.py run --seconds 3600       benchmarks/results/soak.json
python benchmarks/soak.py table --write            benchmarks/results/soak.md

2,000 items of the embedded shop by words, the shipped nano base as an untrained judge, a workbench with a queue. The
clients search with and without verdicts, ask for suggestions, judge pairs, vote, read metrics, send what is refused and
go away in the middle of a request. "growth": the median of the last tenth less that of a tenth after the first third.
The clients run beside the server, on the same cores.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from lib.timing import machine
from serving_load import _make_judge, settled

NAME, ITEMS, SAMPLES = "soak", 2000, 200
FOLDER = WORK / NAME
# kind -> (share of the requests, the status that is right)
KINDS = {
    "search": (40, 200), "judged search": (10, 200), "suggest": (20, 200), "judge": (5, 200), "vote": (10, 200),
    "metrics": (3, 200), "refused filter": (5, 400), "no such item": (4, 404), "gone": (3, 0),
}  # fmt: skip
app = typer.Typer(add_completion=False, help=__doc__)


def prepared() -> list[str]:
    """Index and workbench, made anew, and the judge; the titles."""
    import polars as pl

    import goodrate as gr
    from goodrate.catalog.items import Catalog
    from goodrate.scale import FOUR_LEVEL
    from goodrate.serving.workbench.grading import Grading, QueuedPair
    from goodrate.serving.workbench.store import Workbench
    from goodrate.shop.world import item_records, make_world

    catalog = Catalog(pl.DataFrame(item_records(make_world(0, ITEMS))))
    titles = catalog.frame["title"].to_list()
    shutil.rmtree(FOLDER / "index", ignore_errors=True)
    gr.Index.create(FOLDER / "index", catalog)
    if not (FOLDER / "judge" / "judge.json").is_file():
        _make_judge(FOLDER / "judge")
    shutil.rmtree(FOLDER / "team", ignore_errors=True)
    grading = Grading(Workbench(FOLDER / "team"))
    grading.set_up(FOUR_LEVEL, None)
    grading.add([QueuedPair("lamp", item, title, "top") for item, title in zip(catalog.ids, titles, strict=True)])
    return titles


def started() -> tuple[subprocess.Popen[str], int]:
    """The server and its port."""
    command = [
        sys.executable,
        "-c",
        "from goodrate.cli import main; main()",
        "serve",
        str(FOLDER / "index"),
        "--port",
        "0",
    ]
    command += ["--model", str(FOLDER / "judge"), "--workbench", str(FOLDER / "team")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "http://" in line:
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return process, int(line.rpartition("http://")[2].split()[0].rstrip("/").rpartition(":")[2])
    raise RuntimeError(f"the server did not start: {said}")


def held(pid: int) -> dict[str, float]:
    """What a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory, threads = (int(status.partition(f"{name}:")[2].split()[0]) for name in ("VmRSS", "Threads"))
    return {"memory_mb": round(memory / 1024, 1), "threads": threads, "files": len(os.listdir(f"/proc/{pid}/fd"))}


class Client:
    """One who asks until the end. counts: by kind and status; wrong: those of another status than is right."""

    def __init__(self, port: int, titles: list[str], seed: int, end: float) -> None:
        self._port, self._titles, self._end = port, titles, end
        self._rng, self._seed, self._votes = random.Random(seed), seed, 0
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        """Ask at random until the end."""
        shares = [share for share, _ in KINDS.values()]
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        while time.monotonic() < self._end:
            kind = self._rng.choices(list(KINDS), shares)[0]
            try:
                status = self._gone() if kind == "gone" else self._ask(connection, kind)
            except (OSError, http.client.HTTPException) as error:
                status = -1
                self.wrong.append(f"{kind}: {error!r}")
                connection.close()
            self.counts[kind] += 1
            if status not in (KINDS[kind][1], 429, -1):  # 429: the server says that it has too much to do
                self.wrong.append(f"{kind}: {status}")
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, kind: str) -> int:
        words = self._rng.choice(self._titles).split()
        query = " ".join(self._rng.sample(words, min(3, len(words))))
        depth, item = (5 if kind == "judged search" else 0), "nobody has this"
        paths = {
            "suggest": f"/suggest?{urlencode({'query': query[:6]})}", "metrics": "/metrics",
            "refused filter": f"/search?{urlencode({'query': query, 'where': 'price <'})}",
            "no such item": f"/explain?{urlencode({'query': query, 'item_id': item})}",
        }  # fmt: skip
        if kind in ("judge", "vote"):
            self._votes += 1
            pairs = [{"query": query, "item_text": text} for text in self._rng.sample(self._titles, 2)]
            place, rater = 1 + self._votes % ITEMS, f"rater {self._seed}"
            body = {"pairs": pairs} if kind == "judge" else {
                "pair": place, "rater": rater, "kind": "label", "label": "related", "token": str(self._votes)
            }  # fmt: skip
            path = "/judge" if kind == "judge" else "/grading/votes"
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        else:
            asked = urlencode({"query": query, "mode": "lexical", "depth": depth, "facets": "brand"})
            connection.request("GET", paths.get(kind, f"/search?{asked}"))
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def _gone(self) -> int:
        """Begin a request and leave."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection:
            connection.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{")
        return 0


@app.command()
def run(
    seconds: Annotated[float, typer.Option(help="Of the load.")] = 3600.0,
    clients: Annotated[int, typer.Option(help="That ask at once.")] = 8,
) -> None:
    """Load the server, and write what it held and answered."""
    titles = prepared()
    process, port = started()
    try:
        begun = time.monotonic()
        asking = [Client(port, titles, seed, begun + seconds) for seed in range(clients)]
        threads = [threading.Thread(target=client.run) for client in asking]
        for thread in threads:
            thread.start()
        samples = []
        while time.monotonic() < begun + seconds:
            samples.append({"seconds": round(time.monotonic() - begun, 1), **held(process.pid)})
            time.sleep(seconds / SAMPLES)
        for thread in threads:
            thread.join()
        counts = sum((client.counts for client in asking), Counter())
        wrong = [one for client in asking for one in client.wrong]
        alive = process.poll() is None
    finally:
        process.terminate()
        code = process.wait(60)
    growth = {name: settled([one[name] for one in samples]) for name in ("memory_mb", "files", "threads")}
    result = {
        "command": f"python benchmarks/{NAME}.py run --seconds {seconds:g} --clients {clients}", **code_versions(),
        "machine": machine(), "load": os.getloadavg(), "seconds": seconds, "clients": clients, "requests": dict(counts),
        "wrong": len(wrong), "examples": wrong[:5], "alive at the end": alive, "exit code after SIGTERM": code,
        "early and late": growth, "samples": samples,
    }  # fmt: skip
    write_atomic(RESULTS / f"{NAME}.json", json.dumps(result, indent=1) + "\n")


def render() -> str:
    """What grew, and what was asked."""
    found = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    rows = [["", "after a third", "at the end"]]
    rows += [
        [name.replace("_mb", " MB"), f"{early:g}", f"{late:g}"]
        for name, (early, late) in found["early and late"].items()
    ]
    asked = sum(found["requests"].values())
    told = f"{found['seconds']:g} seconds, {found['clients']} clients, {asked:,} requests, "
    told += f"{found['wrong']} answered otherwise than is right."
    return "\n\n".join([f"{told} SIGTERM ended it with {found['exit code after SIGTERM']}.", markdown(rows)])


add_table(app, NAME, render, "The table of the result.")

if __name__ == "__main__":
    app()
