"""Words alone, here and by bm25s and tantivy, on real catalogues with human grades.

python benchmarks/search_peers.py run            benchmarks/results/search_peers.json
python benchmarks/search_peers.py table --write  benchmarks/results/search_peers.md

Every engine gets the same texts with the same English stemmer and no stop words; queries as they were typed. Ours is
the index's lexical channel alone, which reads attributes apart and weighs them a quarter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import typer

import goodrate as gr
from goodrate.catalog.rendering import lexical_texts
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.report import numbers
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.retrieval.table import id_condition
from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from search_quality import DATA, folder, judgements_format

NAME, DEPTH, METRIC = "search_peers", 100, "ndcg@10"
Scores = Callable[[str], dict[str, float]]  # query -> id -> score of every item that matches
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run() -> None:
    """Measure all engines on all catalogues."""
    results: dict[str, Any] = {**code_versions(), "data": {}}
    for name, source in DATA.items():
        catalog = gr.read_catalog(folder() / source.catalog, format=source.format)
        index = gr.Index.create(WORK / NAME / name, catalog)
        read = gr.read_judgements(folder() / source.judgements, scale=source.scale, format=judgements_format(name))
        results["data"][name] = measured(index, read.join(index.items))
    path = RESULTS / f"{NAME}.json"
    write_atomic(path, json.dumps(results, indent=1) + "\n")
    print(path)


def measured(index: gr.Index, judgements: gr.Judgements) -> dict[str, Any]:
    """Engine -> lists -> nDCG@10 and its difference to ours."""
    frame = index.items.frame
    core, attributes = lexical_texts(frame)
    whole = [" ; ".join(pair) for pair in zip(core, attributes, strict=True)]
    ids = frame["id"].to_list()
    engines = {f"{name}, {what}": make(ids, texts) for what, texts in (("without attributes", core), ("all", whole))
               for name, make in (("bm25s", _bm25s), ("tantivy", _tantivy))}  # fmt: skip
    queries, qrels = judgements.queries(), judgements.qrels()
    found: dict[str, Any] = {}
    for judged_only in (True, False):
        first = None
        for name, scores in {"goodrate, lexical channel": None, **engines}.items():
            run = {q: _ranked(index, scores, text, qrels[q], judged_only) for q, text in queries.items()}
            values = numbers(evaluate_run(run, qrels, judgements.scale, [METRIC], judged_only), METRIC)
            first = values if first is None else first
            found.setdefault(name, {})["judged lists" if judged_only else "whole index"] = {
                METRIC: bootstrap_interval(values).as_dict(),
                "minus goodrate": paired_bootstrap_difference(values, first).as_dict(),
            }
    return found


def _ranked(
    index: gr.Index, scores: Scores | None, query: str, judged: dict[str, int], judged_only: bool
) -> list[tuple[str, float]]:
    """Items with scores; of a judged list, those that do not match come last."""
    if scores is None:
        where = id_condition(sorted(judged)) if judged_only else None
        found = {hit.item_id: hit.score for hit in index.store.search_text(query, max(DEPTH, len(judged)), where)}
    else:
        found = scores(query)
    if judged_only:
        return [(item, found.get(item, 0.0)) for item in judged]
    return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:DEPTH]


def _words(texts: list[str]) -> list[list[str]]:
    """Stemmed words in lower case."""
    import tantivy

    plain = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase())
    analyzer = plain.filter(tantivy.Filter.stemmer("english")).build()
    return [analyzer.analyze(text) for text in texts]


def _bm25s(ids: list[str], texts: list[str]) -> Scores:
    import bm25s

    index = bm25s.BM25()
    index.index(_words(texts), show_progress=False)

    def scores(query: str) -> dict[str, float]:
        values = index.get_scores(_words([query])[0])
        return {ids[row]: float(values[row]) for row in np.flatnonzero(values > 0)}

    return scores


def _tantivy(ids: list[str], texts: list[str]) -> Scores:
    import tantivy

    builder = tantivy.SchemaBuilder().add_text_field("body", tokenizer_name="en_stem")
    index = tantivy.Index(builder.add_unsigned_field("row", stored=True).build())
    writer = index.writer(128_000_000, 1)
    for row, text in enumerate(texts):
        writer.add_document(tantivy.Document(body=text, row=row))
    writer.commit()
    index.reload()
    searcher = index.searcher()

    def scores(query: str) -> dict[str, float]:
        parsed, _ = index.parse_query_lenient(" ".join(_words([query])[0]), ["body"])
        hits = searcher.search(parsed, len(ids)).hits
        return {ids[searcher.doc(place)["row"][0]]: score for score, place in hits}

    return scores


def render() -> str:
    """A row per catalogue and engine."""
    from search_quality import cell

    rows = [["data", "engine", "judged lists: nDCG@10", "minus goodrate", "whole index", "minus goodrate"]]
    for data, engines in json.loads((RESULTS / f"{NAME}.json").read_text())["data"].items():
        for name, lists in engines.items():
            cells = [
                cell(one[what], form)
                for one in lists.values()
                for what, form in ((METRIC, ".3f"), ("minus goodrate", "+.3f"))
            ]
            rows.append([data, name, *cells])
    return markdown(rows)


add_table(app, NAME, render, "The table.")

if __name__ == "__main__":
    app()
