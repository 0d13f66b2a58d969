"""What a search costs in CPU seconds, by part, and how that grows with the catalogue; and a million verdicts.

python benchmarks/cost.py run 100000                     one JSON per size; a size that is there is not measured again
python benchmarks/cost.py run 1000000 --queries 20       a few minutes on a quiet machine
python benchmarks/cost.py verdicts nano                  the base that ships as an untrained judge
python benchmarks/cost.py verdicts cross --model FOLDER  a cross-encoder on such a text encoder, untrained
python benchmarks/cost.py table --write                  benchmarks/results/cost.md

Items, queries and vectors are those of search_scale.py. CPU seconds are of the whole process, all threads together, so
that they do not depend on what else the machine does, or on how many cores it has; a part does not count what the parts
inside it take. A query's own vector is at hand: encoding is measured beside, by `verdicts`, with the encoder that is
named there. The page is the answer's JSON; sockets and the browser are not in it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer

from goodrate.retrieval import search as searching
from goodrate.retrieval.search import Searcher
from goodrate.retrieval.store import Store
from goodrate.run_folder import code_versions, new_folder, write_atomic
from goodrate.serving.answers import search_json
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import SearchRequest
from lib.queue import RESULTS, WORK, hardware
from lib.tables import add_table, markdown
from lib.timing import significant
from search_scale import Generated, Known, filled

NAME = "cost"
QUERIES, WARM, K = 60, 5, 20
PARTS = ("lexical", "identifiers", "vector", "fusion", "items", "facets", "page", "rest")
WATCHED = {"search_text": "lexical", "search_identifiers": "identifiers", "search_vector": "vector", "items": "items"}
PAIRS, OF_QUERY = 1000, 50
CORE_HOUR, GB_MONTH = 0.04, 0.023  # dollars: round numbers of on-demand cores and of object storage
RATE = 10  # queries a second of the plan
T = TypeVar("T")
app = typer.Typer(add_completion=False, help=__doc__)


class Meter:
    """CPU seconds of this process by part, each without those of the parts inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._inside = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's CPU seconds as that part's."""
        self._inside.append(0.0)
        start = time.process_time()
        try:
            yield
        finally:
            taken = time.process_time() - start
            self.seconds[name].append(taken - self._inside.pop())
            self._inside[-1] += taken

    def wrapped(self, name: str, call: Callable[..., T]) -> Callable[..., T]:
        """The function, counted as that part."""

        def counted(*arguments: Any, **named: Any) -> T:
            with self.part(name):
                return call(*arguments, **named)

        return counted

    def watch(self, holder: Any, function: str, name: str) -> None:
        """Count a function of an object or a module from here on."""
        setattr(holder, function, self.wrapped(name, getattr(holder, function)))

    def forget(self) -> None:
        """Begin anew."""
        self.seconds.clear()


@app.command()
def run(
    size: Annotated[int, typer.Argument(help="Items.")],
    queries: Annotated[int, typer.Option(help="Queries of each mode.")] = QUERIES,
) -> None:
    """Make the index where there is none, and search it."""
    path = RESULTS / NAME / f"{size}.json"
    if path.is_file():
        print(path)
        return
    made, folder = Generated(size), WORK / NAME / str(size)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off: its indexing was not measured
    before = time.process_time()
    filled(made, folder)
    indexing = time.process_time() - before
    texts, vectors = made.queries()
    result = {
        "items": size, **code_versions(), "hardware": hardware(), "load": os.getloadavg()[0],
        "indexing": significant(indexing, 3), "bytes": on_disk(folder),
        "queries": searched(Store.open(folder), Known(texts, vectors), texts[: queries + WARM]),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }  # fmt: skip
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(path)


def searched(store: Store, encoder: Known, texts: list[str]) -> dict[str, Any]:
    """CPU milliseconds a query by mode: of each part, and of all."""
    meter, searcher = Meter(), Searcher(store, encoder)
    for function, name in WATCHED.items():
        meter.watch(store, function, name)
    meter.watch(searcher, "facets", "facets")
    pipeline, whole = SearchPipeline(store, searcher), searching.fused
    searching.fused = meter.wrapped("fusion", whole)
    try:
        cases = {
            "lexical": {"mode": "lexical"}, "dense": {"mode": "dense"}, "hybrid": {"mode": "hybrid"},
            "hybrid, facets": {"mode": "hybrid", "facets": ("auto",)},
            "hybrid, filtered": {"mode": "hybrid", "where": "price < 20 AND brand = 'brand7'"},
        }  # fmt: skip
        return {name: asked(pipeline, meter, texts, **case) for name, case in cases.items()}
    finally:
        searching.fused = whole


def asked(pipeline: SearchPipeline, meter: Meter, texts: list[str], **request: Any) -> dict[str, float]:
    """CPU milliseconds a query, the mean over queries, the first few left out."""
    for place, text in enumerate(texts):
        if place == WARM:
            meter.forget()
        with meter.part("rest"):
            response = pipeline.search(SearchRequest(text, k=K, **request))
        with meter.part("page"):
            json.dumps(search_json(response, None))
    count = len(texts) - WARM
    parts = {name: significant(1000 * sum(meter.seconds[name]) / count, 3) for name in PARTS if name in meter.seconds}
    return {**parts, "all": significant(1000 * sum(map(sum, meter.seconds.values())) / count, 3)}


def on_disk(folder: Path) -> dict[str, int]:
    """Bytes of the index: rows and vectors, the indices over them, and the rest."""
    found: dict[str, int] = defaultdict(int)
    for file in folder.rglob("*"):
        if file.is_file():
            places = file.relative_to(folder).parts
            kind = next((kind for kind in ("data", "_indices") if kind in places), "rest")
            found[kind.strip("_")] += file.stat().st_size
    return dict(found)


@app.command()
def verdicts(
    kind: Annotated[str, typer.Argument(help="nano or cross.")],
    model: Annotated[str, typer.Option(help="Folder of a text encoder, for cross; its queries are encoded too.")] = "",
    pairs: Annotated[int, typer.Option(help="Pairs.")] = PAIRS,
) -> None:
    """CPU seconds of verdicts, by part, and of a query's vector."""
    path = RESULTS / NAME / f"verdicts-{kind}.json"
    if path.is_file():
        print(path)
        return
    judge = opened(kind, model)
    catalog, _ = Generated(pairs).part(0)
    rows, (texts, _) = catalog.frame.to_dicts(), Generated(pairs).queries()
    result = {
        "judge": kind, "model": Path(model).name or "nano", "pairs": pairs, "pairs_of_a_query": OF_QUERY,
        **code_versions(), "hardware": hardware(), "load": os.getloadavg()[0], "ms_a_pair": judged(judge, texts, rows),
        "ms_a_query_vector": encoded(model, texts) if model else None,
    }  # fmt: skip
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(path)


def opened(kind: str, model: str) -> Any:
    """An untrained judge of that kind, from a folder of its own, with a new store."""
    from goodrate.api.judging import open_judge

    folder, store = WORK / NAME / kind, WORK / NAME / f"{kind}.sqlite"
    if not folder.is_dir():
        {"nano": _nano, "cross": _cross}[kind](folder, model)
    store.unlink(missing_ok=True)
    return open_judge(folder, store=store)


def _nano(folder: Path, model: str) -> None:
    from goodrate.models.causal_lm import CausalLM
    from goodrate.recipes.judge_folder import write_judge
    from goodrate.relevance.judge_format import JudgeFormat

    write_judge(CausalLM.load("nano"), JudgeFormat(), folder)


def _cross(folder: Path, model: str) -> None:
    from goodrate.models.cross_encoder import CrossEncoder
    from goodrate.models.encoder import Encoder
    from goodrate.relevance.cross_encoder_judge import Card, write_cross_encoder_judge

    network = CrossEncoder(Encoder.load(model, precision="auto"), 4, 192)
    with new_folder(folder) as beside:
        write_cross_encoder_judge(beside, Card(scale="four_level", max_tokens=192), network)


def judged(judge: Any, texts: list[str], rows: list[dict[str, Any]]) -> dict[str, float]:
    """CPU milliseconds a pair: the network's layers; the store; and the rest: texts, tokens, head, tiers."""
    meter, network = Meter(), judge.inner.model.network
    layers, inside = getattr(network, "base_model", network), ExitStack()
    layers.register_forward_pre_hook(lambda *_: inside.enter_context(meter.part("forward")) and None)
    layers.register_forward_hook(lambda *_: inside.pop_all().close(), always_call=True)
    for function in ("get_many", "put_many"):
        meter.watch(judge.store, function, "store")
    for start in range(0, len(rows), OF_QUERY):
        if start == OF_QUERY:
            meter.forget()
        with meter.part("rest"):
            judge.pair_verdicts(judge.pairs(texts[start // OF_QUERY], rows[start : start + OF_QUERY]))
    count = len(rows) - OF_QUERY
    parts = {name: significant(1000 * sum(values) / count, 3) for name, values in meter.seconds.items()}
    return {**parts, "all": significant(1000 * sum(map(sum, meter.seconds.values())) / count, 3)}


def encoded(model: str, texts: list[str]) -> float:
    """CPU milliseconds of one query's vector."""
    from goodrate.models.encoder import Encoder

    encoder, taken = Encoder.load(model), []
    for text in texts[: QUERIES + WARM]:
        start = time.process_time()
        encoder.encode_queries([text])
        taken.append(1000 * (time.process_time() - start))
    return significant(float(np.mean(taken[WARM:])), 3)


def render() -> str:
    """What a query costs by size, what a verdict costs by judge, and what an item takes on disk."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS / NAME).glob("*.json")]
    sizes = sorted((one for one in found if "items" in one), key=lambda one: one["items"])
    judges = sorted((one for one in found if "judge" in one), key=lambda one: one["ms_a_pair"]["all"])
    tables = [queries_table(sizes), growth_table(sizes), verdicts_table(judges), plan_table(sizes[-1])]
    return "\n\n".join(tables)


def queries_table(sizes: list[dict[str, Any]]) -> str:
    """A row per size and mode."""
    rows = [["items (load average)", "search", *(f"{part}, CPU ms" for part in PARTS), "all"]]
    for one in sizes:
        for mode, parts in one["queries"].items():
            cells = [str(parts.get(part, "-")) for part in (*PARTS, "all")]
            rows.append([f"{one['items']:,} ({one['load']:.0f})", mode, *cells])
    return markdown(rows)


def growth_table(sizes: list[dict[str, Any]]) -> str:
    """A row per size: a million queries, and an item."""
    head = ["items", "a million hybrid queries, CPU hours", "indexing an item, CPU ms"]
    rows = [[*head, "rows and vectors, bytes an item", "indices, bytes an item", "peak memory, MB"]]
    for one in sizes:
        hours = one["queries"]["hybrid"]["all"] * 1e6 / 1000 / 3600
        made = one["indexing"] * 1000 / one["items"]
        rows.append([f"{one['items']:,}", f"{significant(hours, 3)}", f"{significant(made, 2)}",
                     *(f"{one['bytes'].get(kind, 0) / one['items']:,.0f}" for kind in ("data", "indices")),
                     f"{one['memory_mb']:,}"])  # fmt: skip
    return markdown(rows)


def verdicts_table(judges: list[dict[str, Any]]) -> str:
    """A row per judge."""
    head = ["judge", "model", "forward, CPU ms a pair", "store", "rest", "all", f"{OF_QUERY} of a search, CPU ms"]
    rows = [[*head, "a million verdicts, CPU hours", "a query's vector, CPU ms"]]
    for one in judges:
        parts, vector = one["ms_a_pair"], one["ms_a_query_vector"]
        cells = [parts.get(part, "-") for part in ("forward", "store", "rest", "all")]
        cells += [significant(parts["all"] * OF_QUERY, 3), significant(parts["all"] * 1e6 / 1000 / 3600, 3)]
        rows.append([one["judge"], one["model"], *map(str, cells), "-" if vector is None else str(vector)])
    return markdown(rows)


def plan_table(shard: dict[str, Any]) -> str:
    """A row per size of catalogue: so many indexes of the largest measured size, each of which every query asks."""
    seconds, size = shard["queries"]["hybrid"]["all"] / 1000, shard["items"]
    each = sum(shard["bytes"].values()) / size
    rows = [["items", f"indexes of {size:,}", "disk, GB", f"storage at {GB_MONTH} $ a GB and month, $ a month",
             "indexing, core hours", f"cores for {RATE} hybrid queries a second",
             f"a million hybrid queries at {CORE_HOUR} $ a core hour, $"]]  # fmt: skip
    for exponent in (6, 7, 8, 9):
        items = 10**exponent
        count = -(-items // size)
        disk = items * each / 1e9
        hours = items * shard["indexing"] / size / 3600
        query = count * seconds
        rows.append([f"{items:,}", f"{count:,}", f"{disk:,.0f}", f"{disk * GB_MONTH:,.0f}", f"{hours:,.0f}",
                     f"{RATE * query:,.0f}", f"{1e6 * query / 3600 * CORE_HOUR:,.0f}"])  # fmt: skip
    return markdown(rows)


add_table(app, NAME, render, "The tables of all sizes and judges.")

if __name__ == "__main__":
    app()
