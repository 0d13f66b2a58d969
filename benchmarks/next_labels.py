"""Does picking what to label teach a judge more than labelling pairs at random?

python benchmarks/next_labels.py run --data chorus,esci150 --model GEMMA --encoder MINILM   one JSON per catalogue
python benchmarks/next_labels.py table --write                                  benchmarks/results/next_labels.md

A judge (cosine and probe, with fixed weights) is fitted on all labels of START queries; each way of
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
from goodrate.recipes.score_sum import ALPHA, LabelledPairs, Member, probe_scores
from goodrate.relevance.ensemble_judge import weighted_sum
from goodrate.relevance.label_picks import WAYS, pick, unsureness
from goodrate.relevance.odds import fit_odds, label_probabilities
from goodrate.relevance.probe_head import gain_targets, ridge_heads
from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS
from lib.read_pairs import ReadPairs
from lib.tables import add_table, markdown

NAME = "next_labels"
START, SIZES, PER_QUERY, INNER_FOLDS = 5, (50, 100, 200), 5, 3
PROBE_WEIGHT = 0.75  # beside the cosine: the usual one where there are few queries
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True)
class Bench:
    """Ways to pick labels, tried on pairs whose labels are known."""

    read: ReadPairs

    def fitted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sum (N,) of cosine and probe of all pairs, fitted on some of them; and those pairs' sums out of fold."""
        read = self.read
        data = LabelledPairs([read.pairs[row] for row in rows], read.scale, INNER_FOLDS)
        held_out = Member.of(probe_scores(read.features[rows], data))
        (head,) = ridge_heads(read.features[rows], gain_targets(data.labels, read.scale), [ALPHA])
        cosine = Member.of(read.cosine[rows])
        how = [1.0, PROBE_WEIGHT], [cosine.mean, held_out.mean], [cosine.spread, held_out.spread]
        total = weighted_sum([read.cosine, head.scores(read.features)], *how)
        return total, weighted_sum([cosine.scores, held_out.scores], *how)

    def unsure(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sum (N,), and how unsure a judge that is fitted on these rows is of all pairs (N,)."""
        total, held_out = self.fitted(rows)
        labels = np.asarray([self.read.pairs[row].label for row in rows])
        odds = fit_odds(held_out, labels, len(self.read.scale))
        return total, unsureness(label_probabilities(total, *odds), self.read.scale)

    def dealt(self, seed: int, ways: list[str]) -> dict[tuple[str, int], np.ndarray]:
        """(way, size) -> sums (N,), each pair's without labels of its fold."""
        folds = LabelledPairs(self.read.pairs, self.read.scale, seed=seed)
        found = {key: np.zeros(len(self.read.pairs)) for key in [("start", 0), *((w, s) for w in ways for s in SIZES)]}
        queries = np.asarray([pair.query for pair in self.read.pairs], dtype=object)
        for fold in range(folds.folds):
            inside = folds.fold == fold
            start = self._start(queries, inside, np.random.default_rng([seed, fold]))
            total, unsure = self.unsure(start)
            found["start", 0][inside] = total[inside]
            pool = np.setdiff1d(self.read.distinct, np.flatnonzero(inside | np.isin(queries, queries[start])))
            for way in ways:
                picks = pool[
                    pick(way, unsure[pool], self.read.vectors[pool], queries[pool], max(SIZES), PER_QUERY, seed)
                ]
                for size in SIZES:
                    found[way, size][inside] = self.fitted(np.concatenate([start, picks[:size]]))[0][inside]
        return found

    def _start(self, queries: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The rows of START queries of other groups and folds, whose labels are not all one."""
        names = sorted(set(queries[~inside].tolist()))
        group = dict(zip(names, query_groups(names), strict=True))
        for _ in range(1000):
            chosen = rng.choice(len(names), START, replace=False)
            rows = np.flatnonzero(np.isin(queries, [names[place] for place in chosen]))
            labels = np.asarray([self.read.pairs[row].label for row in rows])
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
        bench = Bench(ReadPairs.read(name, model, encoder))
        for seed in map(int, seeds.split(",")):
            path = RESULTS / NAME / f"{name}-{model.name}-{seed}.json"
            if path.is_file():
                continue
            start = time.perf_counter()
            rows = measured(bench, bench.dealt(seed, list(WAYS)))
            result = {
                "data": name, "model": model.name, "encoder": encoder.name, **code_versions(), "seed": seed,
                "pairs": len(bench.read.pairs), "start": START, "per_query": PER_QUERY, "rows": rows,
                "minutes": round((time.perf_counter() - start) / 60, 2),
            }  # fmt: skip
            write_atomic(path, json.dumps(result) + "\n")
            print(path, flush=True)


def measured(bench: Bench, deal: dict[tuple[str, int], np.ndarray]) -> list[dict[str, Any]]:
    """nDCG@10 by query, and AUC good, of each way and size."""
    data = LabelledPairs(bench.read.pairs, bench.read.scale)
    good = bench.read.scale.is_positive[data.labels]
    return [
        {
            "way": way, "size": size, "auc_good": area_under_curve(good, total),
            "ndcg@10": [round(float(value), 5) for value in data.ndcg(total)],
        }
        for (way, size), total in deal.items()
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


def cell(value: Any, form: str = ".3f") -> str:
    """A number, with its interval where it has one; - for none."""
    if isinstance(value, dict):
        return f"{value['value']:{form}} ({value['low']:{form}} to {value['high']:{form}})"
    return "-" if value is None else f"{value:{form}}"


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
