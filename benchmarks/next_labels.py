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
from goodrate.recipes.encoder_baseline import encoder_card
from goodrate.recipes.score_sum import USUAL, LabelledPairs, Standardised, probe_scores
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.ensemble_judge import weighted_sum
from goodrate.relevance.label_picks import WAYS, distinct_pairs, pick, unsureness
from goodrate.relevance.odds import fit_odds, label_probabilities
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.probe_head import gain_targets, ridge_heads
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import RelevanceScale, get_scale
from lib.queue import RESULTS
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
    seeds: Annotated[int, typer.Option(help="Deals of folds and first queries.")] = 5,
) -> None:
    """Measure all ways over all deals."""
    for name in data.split(","):
        start = time.perf_counter()
        bench = opened(name, model, encoder)
        deals = []
        for seed in range(seeds):
            deals.append(bench.dealt(seed, list(WAYS)))
            print(name, "deal", seed, f"{time.perf_counter() - start:.0f} s", flush=True)
        result = {
            "data": name, "model": model.name, "encoder": encoder.name, **code_versions(), "pairs": len(bench.pairs),
            "start": START, "per_query": PER_QUERY, "seeds": seeds, **measured(bench, deals),
            "minutes": round((time.perf_counter() - start) / 60, 2),
        }  # fmt: skip
        path = RESULTS / NAME / f"{name}-{model.name}.json"
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path)


def opened(name: str, model: Path, encoder: Path) -> Bench:
    """A catalogue's labelled pairs, read by both models."""
    _, pairs, scale_name = labelled_pairs(name)
    scale = get_scale(scale_name)
    loaded = Encoder.load(str(encoder), precision="auto")
    judge = EncoderJudge(loaded, encoder_card(str(encoder), loaded, scale))
    queries = list(dict.fromkeys(pair.query for pair in pairs))
    place = {query: row for row, query in enumerate(queries)}
    of_queries = judge.query_vectors(queries)[[place[pair.query] for pair in pairs]]
    of_items = judge.item_vectors([pair.item for pair in pairs])
    texts = judge.reads([pair.item for pair in pairs])
    return Bench(
        pairs, scale, features_of(name, model, pairs, scale_name), np.einsum("nd,nd->n", of_queries, of_items),
        np.hstack([of_queries, of_items]), distinct_pairs([pair.query for pair in pairs], texts),
    )  # fmt: skip


def measured(bench: Bench, deals: list[dict[tuple[str, int], np.ndarray]]) -> dict[str, Any]:
    """nDCG@10 and AUC good of each way and size, and what each way gains over random picks."""
    data = LabelledPairs(bench.pairs, bench.scale)
    good = bench.scale.is_positive[data.labels]
    orders = {key: [bench.scale.expected_gain(deal[key]) for deal in deals] for key in deals[0]}
    by_query = {key: np.mean([data.ndcg(one) for one in each], axis=0) for key, each in orders.items()}
    auc = {key: [area_under_curve(good, one) for one in each] for key, each in orders.items()}
    rows = []
    for (way, size), values in by_query.items():
        row: dict[str, Any] = {
            "way": way, "size": size, "ndcg@10": bootstrap_interval(values).as_dict(),
            "auc_good": float(np.mean(auc[way, size])),
        }  # fmt: skip
        if ("random", size) in by_query and way != "random":
            row["minus random"] = bootstrap_interval(values - by_query["random", size]).as_dict()
            row["auc minus random"] = [float(a - b) for a, b in zip(auc[way, size], auc["random", size], strict=True)]
        rows.append(row)
    return {"queries": len(data.queries), "rows": rows}


def render() -> str:
    """A table per catalogue."""
    parts = []
    for one in (json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))):
        rows = [["labels added", "picked", "nDCG@10", "minus random", "AUC good", "minus random, of all seeds"]]
        for row in sorted(one["rows"], key=lambda row: (row["size"], [*WAYS, "start"].index(row["way"]))):
            extra = row.get("auc minus random")
            rows.append([
                str(row["size"]), row["way"], cell(row["ndcg@10"]), cell(row.get("minus random"), "+.3f"),
                cell(row["auc_good"]), "-" if extra is None else f"{min(extra):+.3f} to {max(extra):+.3f}",
            ])  # fmt: skip
        parts.append(
            f"### {one['data']}\n\n{one['pairs']:,} pairs, {one['queries']} queries whose labels differ; all labels of "
            f"{one['start']} queries at the start, at most {one['per_query']} picks of a query, {one['seeds']} seeds, "
            f"{one['model']} and {one['encoder']}\n\n{markdown(rows)}"
        )
    return "\n\n".join(parts)


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
