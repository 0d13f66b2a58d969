"""Search before any judge, on real catalogues with human grades: words, meaning, both, and identifiers.

python benchmarks/search_quality.py run --data chorus,esci150 --encoder MINILM     one JSON per (data, encoder)
python benchmarks/search_quality.py run --data chorus --encoder MPNET --judged-items     judged lists alone, where all
                                                                                   items would take too long to encode
python benchmarks/search_quality.py table --write                                  benchmarks/results/search_quality.md

MINILM is the folder of a sentence encoder (../shared/tools/fixtures.py minilm). Results hold no text of the data.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

import goodrate as gr
from goodrate.api.tuning import Recalling
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.report import numbers
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.evaluation.systems import Task, search_runs
from goodrate.retrieval.calibration import non_queries
from goodrate.retrieval.identifiers import item_identifiers, query_identifiers
from goodrate.retrieval.search import Searcher
from goodrate.retrieval.search_settings import SearchSettings
from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS, ROOT, WORK
from lib.tables import add_table, markdown

NAME = "search_quality"
SYSTEMS = ("random", "lexical", "dense", "hybrid")
IDENTIFIERS, NON_WORDS, SEED = 200, 200, 0
PARTS = {  # name -> settings of a hybrid search, and whether words are taken as typed
    "as it is": (SearchSettings(), False),
    "head by BM25": (SearchSettings(share_weight=0.0), False),
    "share weight 2.5": (SearchSettings(share_weight=2.5), False),
    "share weight 8": (SearchSettings(share_weight=8.0), False),
    "by scores alone": (SearchSettings(fusion="scores"), False),
    "by reciprocal rank": (SearchSettings(fusion="ranks", dense_weight=1.0), False),
    "words as typed: no exclusion, price, correction": (SearchSettings(), True),
    "both": (SearchSettings(fusion="ranks", dense_weight=1.0), True),
    "no floor": (SearchSettings(floor=False), False),
}
NOTHING = ("???", "!!", "\N{SLIGHTLY SMILING FACE}")
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True)
class Data:
    """A catalogue and its judgements. format: of both files. scale: of the labels."""

    catalog: str
    judgements: str
    format: str
    scale: str


DATA = {
    "chorus": Data("chorus/products.jsonl.gz", "chorus/ratings.csv", "chorus", "graded_0_3"),
    "esci150": Data("esci150/products.jsonl.gz", "esci150/judgements.csv", "esci", "esci"),
}


def folder() -> Path:
    """Where the data lies."""
    shared = Path(os.environ.get("GOODRATE_SHARED") or ROOT.parent / "shared")
    return Path(os.environ.get("GOODRATE_DATA") or shared / "data")


@app.command()
def run(
    encoder: Annotated[Path, typer.Option(help="A sentence-transformers folder.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = ",".join(DATA),
    fields: Annotated[str, typer.Option(help="What the encoder reads of an item; none: the default.")] = "",
    judged_items: Annotated[bool, typer.Option(help="An index of the judged items alone.")] = False,
) -> None:
    """Make the indexes that are not there, and measure."""
    for name in data.split(","):
        start = time.perf_counter()
        source = DATA[name]
        catalog = gr.read_catalog(folder() / source.catalog, format=source.format)
        form = judgements_format(name)
        judgements = gr.read_judgements(folder() / source.judgements, scale=source.scale, format=form)
        ending = [*(fields.split(",") if fields else []), *(["judged", "items"] if judged_items else [])]
        work = WORK / NAME / "-".join([name, encoder.name, *ending])
        if judged_items:
            known = {item for items in judgements.join(catalog).qrels().values() for item in items}
            catalog = gr.Catalog(catalog.frame.filter(pl.col("id").is_in(list(known))))
        index = gr.Index.create(work, catalog, encoder, fields=fields.split(",") if fields else None)
        result = {
            "data": name, "encoder": encoder.name, "fields": index.store.encoded_fields, **code_versions(),
            "judged_lists": measured(index, judgements, judged_only=True),
            "as_typed": measured(index.taking_words_as_typed(), judgements, judged_only=True),
            "parts": {"judged_lists": parts(index, judgements, judged_only=True)},
        }  # fmt: skip
        if not judged_items:
            result["whole_index"] = measured(index, judgements, judged_only=False)
            result["parts"]["whole_index"] = parts(index, judgements, judged_only=False)
            result |= {"identifiers": identifiers(index, catalog.frame), "nothing": nothing(index)}
            result["found"] = found(index, judgements)
        result["minutes"] = round((time.perf_counter() - start) / 60, 2)
        path = RESULTS / NAME / f"{work.name}.json"
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path)


def judgements_format(name: str) -> str | None:
    """The format of a judgements file; that of esci150 has our own column names."""
    return "chorus" if name == "chorus" else None


def measured(index: gr.Index, judgements: gr.Judgements, judged_only: bool) -> dict[str, Any]:
    """System -> metric -> value with its interval, and the share of the first ten results that nobody judged."""
    metrics = ["ndcg@10", "ndcg"] if judged_only else ["ndcg@10", "recall@100", "judged@10"]
    done = gr.evaluate(SYSTEMS, judgements, metrics, index=index, judged_only=judged_only)
    first = next(one for one in done.report.systems if one.name == "lexical")
    values: dict[str, Any] = {"queries": len(first.values)}
    for one in done.report.systems:
        values[one.name] = {metric: interval.as_dict() for metric, interval in one.metrics.items()}
        difference = one.values["ndcg@10"].to_numpy() - first.values["ndcg@10"].to_numpy()
        values[one.name]["ndcg@10 minus lexical"] = bootstrap_interval(difference).as_dict()
    return values


def parts(index: gr.Index, judgements: gr.Judgements, judged_only: bool) -> dict[str, Any]:
    """nDCG@10 and recall@100 of hybrid search, and of it with one part changed: over all queries, and negated ones."""
    joined = judgements.join(index.items)
    queries, qrels = joined.queries(), joined.qrels()
    task, metrics = Task(queries, qrels, judged_only), ("ndcg@10", "recall@100")
    negated = np.array([bool((read := index.searcher.read(q).constraints) and read.must_not) for q in queries.values()])
    values, recalls, searchers = {}, {}, {typed: Recalling(index, typed) for typed in (False, True)}
    for name, (settings, as_typed) in PARTS.items():
        searchers[as_typed].settings = settings
        run = search_runs(task, searchers[as_typed], "hybrid").runs[0]
        done = evaluate_run(run, qrels, joined.scale, list(metrics), judged_only)
        values[name], recalls[name] = (numbers(done, metric) for metric in metrics)
    first = next(iter(values.values()))
    return {
        name: {
            "all": bootstrap_interval(own).as_dict(), "difference": paired_bootstrap_difference(own, first).as_dict(),
            "negated": bootstrap_interval(own[negated]).as_dict(), "queries negated": int(negated.sum()),
            "negated difference": paired_bootstrap_difference(own[negated], first[negated]).as_dict(),
            "recall@100": bootstrap_interval(recalls[name]).as_dict(),
        }
        for name, own in values.items()
    }  # fmt: skip


def identifier_queries(frame: pl.DataFrame) -> Iterator[tuple[str, set[str]]]:
    """Identifiers of random items as people type them, and the items that have them."""
    of_items = [codes.split() for codes in item_identifiers(frame)]
    holders: dict[str, set[str]] = {}
    for item, codes in zip(frame["id"].to_list(), of_items, strict=True):
        for code in codes:
            holders.setdefault(code, set()).add(item)
    draw = np.random.default_rng(SEED)
    for row in draw.permutation(len(frame))[: 4 * IDENTIFIERS]:
        codes = [code for code in of_items[row] if query_identifiers(code) == [code] and len(holders[code]) <= 3]
        if codes:
            code = codes[draw.integers(len(codes))]
            yield typed(code, frame["brand"][int(row)] or "", draw), holders[code]


def typed(code: str, brand: str, draw: np.random.Generator) -> str:
    """A code as it is, in capitals, with a hyphen or a blank inside, or behind the brand."""
    half = len(code) // 2
    return [
        code,
        code.upper(),
        f"{code[:half]}-{code[half:]}",
        f"{code[:half]} {code[half:]}",
        f"{brand} {code}".strip(),
    ][draw.integers(5)]


def identifiers(index: gr.Index, frame: pl.DataFrame) -> dict[str, Any]:
    """Share of identifier queries whose item is first, with the identifier channel and without, and milliseconds."""
    queries = [pair for pair, _ in zip(identifier_queries(frame), range(IDENTIFIERS), strict=False)]
    return {"queries": len(queries)} | {
        name: first_place(Searcher(index.store, index.encoder, channels), queries)
        for name, channels in (("words and meaning", ("lexical", "dense")), ("and identifiers", None))
    }


def first_place(searcher: Searcher, queries: Sequence[tuple[str, set[str]]]) -> dict[str, float]:
    """Share of queries with a right item in the first place; milliseconds of a search."""
    right, milliseconds = [], []
    for query, items in queries:
        start = time.perf_counter()
        hits = searcher.search(query, 10)
        milliseconds.append(1000 * (time.perf_counter() - start))
        right.append(bool(hits) and hits[0].item_id in items)
    low, high = np.percentile(milliseconds, [50, 95])
    return {"first": float(np.mean(right)), "p50_ms": round(float(low), 1), "p95_ms": round(float(high), 1)}


def nothing(index: gr.Index) -> dict[str, int]:
    """How many results queries without a word get."""
    return {f"query {n}": len(index.search(query, 10)) for n, query in enumerate(NOTHING)}


def found(index: gr.Index, judgements: gr.Judgements) -> dict[str, Any]:
    """How many judged queries, and how many of NON_WORDS strings of random letters, find anything, by mode."""
    asked = {
        "judged queries": list(judgements.queries().values()),
        "random letters": non_queries(np.random.default_rng(SEED + 1), NON_WORDS),  # others than set the floor
    }
    searcher = index.searcher
    return {
        name: {"queries": len(texts), **{mode: sum(bool(searcher.search(text, 1, mode=mode)) for text in texts)
                                         for mode in ("dense", "hybrid")}}
        for name, texts in asked.items()
    } | {"floor": searcher.calibration.floor}  # fmt: skip


def render() -> str:
    """A row per data set, encoder and system."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))]
    rows = [["data, encoder, fields", "system", "judged lists: nDCG@10", "words as typed", "nDCG", "minus lexical",
             "whole index: nDCG@10", "recall@100", "judged@10"]]  # fmt: skip
    for one in found:
        lists, whole = one["judged_lists"], one.get("whole_index")
        for system in SYSTEMS:
            a, typed = lists[system], one["as_typed"][system]["ndcg@10"]["value"]
            what = f"{one['data']} ({lists['queries']}), {one['encoder']}, {' '.join(one['fields'])}"
            rows.append([
                what + ("" if whole else ", index of the judged items"), system, cell(a["ndcg@10"]), f"{typed:.3f}",
                f"{a['ndcg']['value']:.3f}", cell(a["ndcg@10 minus lexical"], "+.3f"),
                *(_whole_cells(whole[system]) if whole else "---"),
            ])  # fmt: skip
    changed = [["data, encoder", "lists", "hybrid", "nDCG@10", "minus as it is", "with exclusions", "minus as it is",
                "recall@100"]]  # fmt: skip
    for one in found:
        for lists, arms in one.get("parts", {}).items():
            for name, a in arms.items():
                changed.append([
                    f"{one['data']}, {one['encoder']}", lists.replace("_", " "), name, cell(a["all"]),
                    cell(a["difference"], "+.3f"), f"{cell(a['negated'])}, {a['queries negated']} queries",
                    cell(a["negated difference"], "+.3f"), cell(a["recall@100"]) if lists == "whole_index" else "-",
                ])  # fmt: skip
    codes = [["data", "queries", "channels", "right item first", "p50, p95 ms"]]
    for one in (one for one in found if "identifiers" in one):
        for name in ("words and meaning", "and identifiers"):
            values = one["identifiers"][name]
            codes.append([one["data"], str(one["identifiers"]["queries"]), name, f"{values['first']:.3f}",
                          f"{values['p50_ms']}, {values['p95_ms']}"])  # fmt: skip
    anything = [["data, encoder", "asked", "queries", "find anything, dense", "hybrid", "floor"]]
    for one in (one for one in found if "found" in one):
        for name in ("judged queries", "random letters"):
            counts = one["found"][name]
            anything.append([f"{one['data']}, {one['encoder']}", name, str(counts["queries"]), str(counts["dense"]),
                             str(counts["hybrid"]), f"{one['found']['floor']:.2f}"])  # fmt: skip
    return "\n\n".join(["### Ranking", markdown(rows), "### One part of hybrid changed", markdown(changed),
                         "### Identifiers of the catalogue", markdown(codes),
                         "### Queries that find anything", markdown(anything)])


def _whole_cells(of: dict[str, Any]) -> list[str]:
    """What a search of the whole index finds."""
    return [cell(of["ndcg@10"]), f"{of['recall@100']['value']:.3f}", f"{of['judged@10']['value']:.3f}"]


def cell(interval: dict[str, float | None], form: str = ".3f") -> str:
    """A value with its interval; "-" where there is none."""
    if interval["value"] is None or interval["low"] is None:
        return "-"
    return f"{interval['value']:{form}} ({interval['low']:{form}} to {interval['high']:{form}})"


add_table(app, NAME, render, "The table of all results.")

if __name__ == "__main__":
    app()
