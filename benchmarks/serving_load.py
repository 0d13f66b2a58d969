"""A server under load: latency by kind of search and number of clients, memory, errors; searches beside explanations.

python benchmarks/serving_load.py run --seconds 600   the mixed run lasts so long, each other case a twentieth of it
python benchmarks/serving_load.py table --write       benchmarks/results/serving_load.md

5,000 items of the embedded shop, an encoder (--encoder, a folder), and the shipped nano base as a judge: untrained,
which costs what a trained one does, and writes reasons of the full 200 tokens. Clients keep their connection and ask
again at once. Queries are words of an item's title. "cold": never asked before, 50 verdicts each; "warm": all verdicts
are stored. The clients run beside the server, on the same cores.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from urllib.parse import urlencode

import numpy as np
import typer

from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from lib.timing import machine

NAME = "serving_load"
ITEMS, WARM, CLIENTS, TOKENS = 5_000, 20, (1, 10, 50), 200
KINDS = ("lexical", "hybrid", "cold", "warm")
MIX = {"lexical": 0.4, "hybrid": 0.3, "warm": 0.28, "cold": 0.02}  # of the searches of the mixed run
SHARE = 20  # other cases last the SHARE-th part of the mixed run
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass
class Tally:
    """Milliseconds by kind of request, and what was not answered with 200."""

    took: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Number and quantiles by kind."""
        kinds = {
            kind: {"n": len(ms), **{f"p{q}": round(float(np.percentile(ms, q)), 1) for q in (50, 95, 99)}}
            for kind, ms in sorted(self.took.items())
        }
        return {"kinds": kinds, "errors": len(self.errors), "examples": self.errors[:3]}


class Asking:
    """Paths of requests, which many threads may take."""

    def __init__(self, titles: list[str], ids: list[str]) -> None:
        self._titles, self._ids, self._lock = titles, ids, threading.Lock()
        self._draw, self._fresh = np.random.default_rng(0), itertools.count()
        self.warm = [f"{self._words()} {number}" for number in range(WARM)]

    def path(self, kind: str) -> str:
        """The path of one request."""
        with self._lock:
            if kind == "explain":
                item = self._ids[int(self._draw.integers(len(self._ids)))]
                return f"/explain?{urlencode({'query': f'{self._words()} {next(self._fresh)}', 'item_id': item})}"
            query = self.warm[int(self._draw.integers(WARM))] if kind == "warm" else self._words()
            query = f"{query} x{next(self._fresh)}" if kind == "cold" else query
        depth = 50 if kind in ("cold", "warm") else 0
        asked = {"query": query, "mode": "lexical" if kind == "lexical" else "hybrid", "depth": depth}
        return f"/search?{urlencode(asked)}"

    def _words(self) -> str:
        words = self._titles[int(self._draw.integers(len(self._titles)))].split()
        return " ".join(self._draw.permutation(words)[:3].tolist())


class Served:
    """`goodrate serve` as a process of its own."""

    def __init__(self, index: Path, judge: Path) -> None:
        command = [sys.executable, "-c", "from goodrate.cli import main; main()", "serve", str(index)]
        verdicts = WORK / NAME / "verdicts.sqlite"
        for file in verdicts.parent.glob("verdicts.sqlite*"):
            file.unlink()
        command += ["--model", str(judge), "--verdicts", str(verdicts), "--port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if "http://" in line.replace("\n", ""):
                break
        else:
            raise RuntimeError(f"the server did not start: {said}")
        self.port = int(said.rpartition("http://")[2].split()[0].rpartition(":")[2])
        threading.Thread(target=self._process.stdout.read, daemon=True).start()

    def memory(self) -> float:
        """Megabytes that the server holds."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)

    def stop(self) -> None:
        """As Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


def ask(port: int, tally: Tally, kinds: Iterator[str], asking: Asking, end: Callable[[], bool]) -> None:
    """One client, until the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while not end():
        kind = next(kinds)
        start = time.perf_counter()
        try:
            connection.request("GET", asking.path(kind))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            tally.errors.append(f"{kind}: {error!r}")
            connection.close()
            continue
        if answer.status == 200:
            tally.took.setdefault(kind, []).append(1000 * (time.perf_counter() - start))
        else:
            tally.errors.append(f"{kind}: {answer.status} {content[:200]!r}")
    connection.close()


def load(served: Served, asking: Asking, clients: list[Iterator[str]], seconds: float) -> dict[str, Any]:
    """So many clients for so long: what they met, and the server's memory second by second."""
    tally, start, memory = Tally(), time.monotonic(), [served.memory()]

    def end() -> bool:
        return time.monotonic() >= start + seconds

    threads = [threading.Thread(target=ask, args=(served.port, tally, kinds, asking, end)) for kinds in clients]
    for thread in threads:
        thread.start()
    while not end():
        time.sleep(min(1.0, seconds / 4))
        memory.append(served.memory())
    for thread in threads:
        thread.join()
    elapsed = round(time.monotonic() - start, 1)  # until the last answer
    return {**tally.summary(), "clients": len(clients), "seconds": seconds, "elapsed": elapsed, "memory_mb": memory}


def mixed(seed: int) -> Iterator[str]:
    """Kinds of search by their shares."""
    draw = np.random.default_rng(seed)
    while True:
        yield str(draw.choice(list(MIX), p=list(MIX.values())))


def prepared(encoder: Path) -> tuple[Path, Path, Asking]:
    """The index, the judge and what is asked. Made once for each encoder."""
    import polars as pl

    import goodrate as gr
    from goodrate.catalog.items import Catalog
    from goodrate.shop.world import item_records, make_world

    folder = WORK / NAME
    index, judge = folder / f"index-{encoder.resolve().name}", folder / "judge"
    catalog = Catalog(pl.DataFrame(item_records(make_world(0, ITEMS))))
    if not (index / "store.json").is_file():
        shutil.rmtree(index, ignore_errors=True)
        gr.Index.create(index, catalog, encoder)
    if not (judge / "judge.json").is_file():
        _make_judge(judge)
    return index, judge, Asking(catalog.frame["title"].to_list(), list(catalog.ids))


def _make_judge(folder: Path) -> None:
    """The nano base with four of its tokens as labels and no token that ends a reason."""
    from goodrate.models.causal_lm import CausalLM
    from goodrate.relevance.lm_judge import Card, write_lm_card
    from goodrate.relevance.rulebook import load_rulebook

    model = CausalLM.load("nano")
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    tokens = tuple(model.encode(digit)[0] for digit in "1234")
    card = Card(
        scale="four_level", label_token_ids=tokens, rule_book_hash=load_rulebook().hash, max_new_tokens=TOKENS
    )  # fmt: skip
    write_lm_card(folder, card)


@app.command()
def run(
    encoder: Annotated[Path, typer.Option(help="A sentence-transformers folder.")] = Path("/tmp/fixtures/minilm"),
    seconds: Annotated[float, typer.Option(help="Of the mixed run.")] = 30.0,
) -> None:
    """Measure, and write benchmarks/results/serving_load.json."""
    started, before = time.perf_counter(), os.getloadavg()
    index, judge, asking = prepared(encoder)
    served = Served(index, judge)
    short = max(5.0, seconds / SHARE)
    cases: dict[str, Any] = {}
    try:
        load(served, asking, [iter(itertools.cycle(("lexical", "hybrid")))] * 2, 3)
        for query in asking.warm:  # judged once, so that it is warm
            asked = urlencode({"query": query, "mode": "hybrid", "depth": 50})
            once = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
            once.request("GET", f"/search?{asked}")
            once.getresponse().read()
        for kind, clients in itertools.product(KINDS, CLIENTS):
            cases[f"{kind}, {clients}"] = load(served, asking, [itertools.repeat(kind)] * clients, short)
        reasons = itertools.repeat("explain")
        for clients in (1, 10):
            beside = [itertools.repeat("lexical")] * clients
            cases[f"beside reasons, {clients}"] = load(served, asking, [reasons, *beside], short)
        cases["mixed, 50"] = load(served, asking, [mixed(seed) for seed in range(50)], seconds)
    finally:
        served.stop()
    document = {
        "command": f"python benchmarks/{NAME}.py run --encoder FOLDER --seconds {seconds:g}", **code_versions(),
        "encoder": encoder.resolve().name, "items": ITEMS, "tokens": TOKENS, "seconds": seconds,
        "machine": machine(), "load": {"before": before, "after": os.getloadavg()},
        "minutes": round((time.perf_counter() - started) / 60, 1), "cases": cases,
    }  # fmt: skip
    write_atomic(RESULTS / f"{NAME}.json", json.dumps(document, indent=1) + "\n")


def settled(memory: list[float]) -> tuple[float, float]:
    """Megabytes after warm-up (a third of the time) and at the end: medians of a tenth of it each.

    >>> settled([1, 5, 5, 5, 6, 6, 6, 6, 6, 7])
    (5, 7)
    """
    part = max(1, len(memory) // 10)
    third = len(memory) // 3
    return median(memory[third : third + part]), median(memory[-part:])


def render() -> str:
    """The tables of the result that lies there."""
    found = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    rows = [["case", "clients", "search", "searches", "a second", "p50 ms", "p95 ms", "p99 ms", "not answered"]]
    for name, case in found["cases"].items():
        for kind, ms in case["kinds"].items():
            rate = f"{ms['n'] / case['elapsed']:.1f}" if "elapsed" in case else "-"
            each = [str(ms["n"]), rate, *(f"{ms[q]:.0f}" for q in ("p50", "p95", "p99"))]
            rows.append([name.split(",")[0], str(case["clients"]), kind, *each, str(case["errors"])])
    memory = found["cases"]["mixed, 50"]["memory_mb"]
    early, late = settled(memory)
    load_before, load_after = (found["load"][when][0] for when in ("before", "after"))
    facts = (
        f"{found['items']:,} items, encoder {found['encoder']}, {found['machine']['cores']} cores, load average "
        f"{load_before:.1f} before and {load_after:.1f} after; {found['seconds']:g} seconds of mixed load, "
        f"{max(5.0, found['seconds'] / SHARE):g} of each other case. Memory: {memory[0]:,.0f} MB before the mixed run, "
        f"{early:,.0f} MB after a third of it, {late:,.0f} MB at its end ({100 * (late / early - 1):+.1f} %)."
    )
    return f"{facts}\n\n{markdown(rows)}"


add_table(app, NAME, render, "Show the tables.")

if __name__ == "__main__":
    app()
