"""Does picking what to label teach a judge more than labelling pairs at random?

python benchmarks/next_labels.py run --data chorus,esci150 --model GEMMA --encoder MINILM   one JSON per catalogue
python benchmarks/next_labels.py table --write                                  benchmarks/results/next_labels.md

A judge (cosine and probe, weights as they are for few queries) is fitted on all labels of START queries; each way of
relevance.label_picks then picks pairs of other queries by what that judge says, their labels are added, and the judge
is fitted anew. Measured on the fold of query groups from which nothing was labelled; each seed deals folds and first
queries anew, the same for all ways. Intervals are over queries, on the mean of the seeds. Results hold no text of the
data. What the language model reads of the pairs is kept in the work folder of real_judges.py.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from goodrate.catalog.splits import query_groups
from goodrate.evaluation.classification import area_under_curve
from goodrate.evaluation.significance import bootstrap_interval
from goodrate.models.encoder import Encoder
from goodrate.recipes.encoder_baseline import FIELDS
from goodrate.recipes.score_sum import USUAL, LabelledPairs, Standardised, probe_scores
from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.ensemble_judge import weighted_sum
from goodrate.relevance.label_picks import WAYS, distinct_pairs, pick, unsureness
from goodrate.relevance.odds import fit_odds, label_probabilities
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.probe_head import gain_targets, ridge_heads
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import RelevanceScale, get_scale
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from real_judges import cell, features_of, labelled_pairs

NAME = "next_labels"
START, SIZES, PER_QUERY, INNER_FOLDS = 5, (50, 100, 200), 5, 3
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True)
class Bench:
    """All labelled pairs of a catalogue with what a judge knows of them. vectors: (N, D) of query and item."""

    pairs: list[JudgedPair]
    scale: RelevanceScale
    features: np.ndarray
    cosine: np.ndarray
    vectors: np.ndarray
    distinct: np.ndarray

    def fitted(self, rows: np.ndarray) -> np.ndarray:
        """Label probabilities (N, L) of all pairs by a judge that is fitted on some of them."""
        data = LabelledPairs([self.pairs[row] for row in rows], self.scale, INNER_FOLDS)
        alpha, weight = USUAL
        held_out = probe_scores(self.features[rows], data, [alpha])[alpha]
        (head,) = ridge_heads(self.features[rows], gain_targets(data.labels, self.scale), [alpha])
        cosine = Standardised.of(self.cosine[rows])
        means, spreads, weights = [cosine.mean, held_out.mean], [cosine.spread, held_out.spread], [1.0, weight]
        slope, cuts = fit_odds(
            weighted_sum([self.cosine[rows], held_out.scores], weights, means, spreads), data.labels, len(self.scale)
        )
        total = weighted_sum([self.cosine, head.scores(self.features)], weights, means, spreads)
        return label_probabilities(total, slope, cuts)

    def dealt(self, seed: int, ways: list[str]) -> dict[tuple[str, int], np.ndarray]:
        """(way, size) -> probabilities (N, L), each pair's without labels of its fold."""
        folds = LabelledPairs(self.pairs, self.scale, seed=seed)
        found = {(way, size): np.zeros((len(self.pairs), len(self.scale))) for way in ways for size in SIZES}
        found["start", 0] = np.zeros((len(self.pairs), len(self.scale)))
        queries = np.asarray([pair.query for pair in self.pairs], dtype=object)
        for fold in range(folds.folds):
            inside = folds.fold == fold
            start = self._start(queries, inside, np.random.default_rng([seed, fold]))
            judged = self.fitted(start)
            found["start", 0][inside] = judged[inside]
            pool = np.setdiff1d(self.distinct, np.flatnonzero(inside | np.isin(queries, queries[start])))
            for way in ways:
                unsure, vectors = unsureness(judged[pool], self.scale), self.vectors[pool]
                picks = pool[pick(way, unsure, vectors, queries[pool], max(SIZES), PER_QUERY, seed)]
                for size in SIZES:
                    rows = np.concatenate([start, picks[:size]])
                    found[way, size][inside] = self.fitted(rows)[inside]
        return found

    def _start(self, queries: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rows of START queries of other groups and folds, whose labels are not all one."""
        names = sorted(set(queries[~inside].tolist()))
        group = dict(zip(names, query_groups(names), strict=True))
        for _ in range(1000):
            chosen = rng.choice(len(names), START, replace=False)
            rows = np.flatnonzero(np.isin(queries, [names[place] for place in chosen]))
            labels = np.asarray([self.pairs[row].label for row in rows])
            if len({group[names[place]] for place in chosen}) == START and len(set(labels.tolist())) > 1:
                return rows
        raise ValueError(f"no {START} queries to begin with")


@app.command()
def run(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    data: Annotated[str, typer.Option(help="Of chorus, esci150.")] = "chorus,esci150",
    seeds: Annotated[
        str, typer.Option(help="Deals of folds and first queries, a file each; those there stay.")
    ] = "0,1,2",
) -> None:
    """Measure all ways, one file for each deal."""
    for name in data.split(","):
        bench = opened(name, model, encoder)
        for seed in map(int, seeds.split(",")):
            path = RESULTS / NAME / f"{name}-{model.name}-{seed}.json"
            if path.is_file():
                continue
            start = time.perf_counter()
            rows = measured(bench, bench.dealt(seed, list(WAYS)))
            result = {
                "data": name, "model": model.name, "encoder": encoder.name, **code_versions(), "seed": seed,
                "pairs": len(bench.pairs), "start": START, "per_query": PER_QUERY, "rows": rows,
                "minutes": round((time.perf_counter() - start) / 60, 2),
            }  # fmt: skip
            write_atomic(path, json.dumps(result) + "\n")
            print(path, flush=True)


def opened(name: str, model: Path, encoder: Path) -> Bench:
    """A catalogue's labelled pairs, read by both models."""
    _, pairs, scale_name = labelled_pairs(name)
    queries = [pair.query for pair in pairs]
    texts = field_texts([pair.item for pair in pairs], FIELDS)
    vectors = read_vectors(WORK / NAME / f"{name}-{encoder.name}.npy", encoder, queries, texts)
    half = vectors.shape[1] // 2
    cosine = np.einsum("nd,nd->n", vectors[:, :half], vectors[:, half:])
    features = features_of(name, model, pairs, scale_name)
    return Bench(pairs, get_scale(scale_name), features, cosine, vectors, distinct_pairs(queries, texts))


def read_vectors(path: Path, encoder: Path, queries: list[str], texts: list[str]) -> np.ndarray:
    """Vectors (N, 2 * D) of queries beside items, kept in a file."""
    if not path.is_file():
        loaded = Encoder.load(str(encoder), precision="auto")
        names, distinct = list(dict.fromkeys(queries)), list(dict.fromkeys(texts))
        of_query = dict(zip(names, loaded.encode_queries(names), strict=True))
        of_text = dict(zip(distinct, loaded.encode_items(distinct), strict=True))
        each = zip(queries, texts, strict=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.stack([np.concatenate([of_query[query], of_text[text]]) for query, text in each]))
    return np.load(path)


def measured(bench: Bench, deal: dict[tuple[str, int], np.ndarray]) -> list[dict[str, Any]]:
    """nDCG@10 by query, and AUC good, of each way and size."""
    data = LabelledPairs(bench.pairs, bench.scale)
    good = bench.scale.is_positive[data.labels]
    gains = {key: bench.scale.expected_gain(p) for key, p in deal.items()}
    return [
        {
            "way": way, "size": size, "auc_good": area_under_curve(good, gain),
            "ndcg@10": [round(float(value), 5) for value in data.ndcg(gain)],
        }
        for (way, size), gain in gains.items()
    ]  # fmt: skip


def summary(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the deals, with intervals over queries."""
    keys = [(row["way"], row["size"]) for row in results[0]["rows"]]
    by_key = {key: [one["rows"][place] for one in results] for place, key in enumerate(keys)}
    ndcg = {key: np.mean([row["ndcg@10"] for row in rows], axis=0) for key, rows in by_key.items()}
    auc = {key: [row["auc_good"] for row in rows] for key, rows in by_key.items()}
    rows = []
    for (way, size), values in ndcg.items():
        row: dict[str, Any] = {"way": way, "size": size, "queries": len(values), "auc_good": np.mean(auc[way, size])}
        row["ndcg@10"] = bootstrap_interval(values).as_dict()
        if way not in ("random", "start"):
            row["minus random"] = bootstrap_interval(values - ndcg["random", size]).as_dict()
            row["auc minus random"] = [a - b for a, b in zip(auc[way, size], auc["random", size], strict=True)]
        rows.append(row)
    return sorted(rows, key=lambda row: (row["size"], [*WAYS, "start"].index(row["way"])))


def render() -> str:
    """A table per catalogue."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))]
    parts = []
    for name in dict.fromkeys(one["data"] for one in found):
        results = [one for one in found if one["data"] == name]
        rows, first = summary(results), results[0]
        table = [["labels added", "picked", "nDCG@10", "minus random", "AUC good", "minus random, each seed"]]
        for row in rows:
            table.append([
                str(row["size"]), row["way"], cell(row["ndcg@10"]), cell(row.get("minus random"), "+.3f"),
                cell(row["auc_good"]), ", ".join(f"{value:+.3f}" for value in row.get("auc minus random", [])) or "-",
            ])  # fmt: skip
        parts.append(
            f"### {name}\n\n{first['pairs']:,} pairs, {rows[0]['queries']} queries whose labels differ; all labels of "
            f"{first['start']} queries at the start, at most {first['per_query']} picks of a query, "
            f"{len(results)} seeds, {first['model']} and {first['encoder']}\n\n{markdown(table)}"
        )
    return "\n\n".join(parts)


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
