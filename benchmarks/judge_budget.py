"""What a part of the verdicts is worth: the first b of each list are judged, in order of retrieval, the others are not.

python benchmarks/judge_budget.py run --data chorus,esci150 --model GEMMA --encoder MINILM    one JSON per catalogue
python benchmarks/judge_budget.py table --write                                 benchmarks/results/judge_budget.md

The judged lists of a catalogue are ordered by retrieval (words and cosine, each standardised and added), and the judge
(cosine and probe, out of fold) sees the first b items of each. Three ways to place the others beside them: "served" is
what goodrate serve does (Good and Mid first, then what was not judged, Bad last), "behind" puts all that was judged
first, "mean" gives what was not judged the mean expected gain of what was. Intervals are over queries, on the mean of
the seeds; what models read is kept in the work folder (lib/read_pairs.py). Results hold no text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from goodrate.evaluation.significance import bootstrap_interval
from goodrate.recipes.score_sum import LabelledPairs, Member, probabilities_out_of_fold, probe_scores
from goodrate.relevance.ensemble_judge import weighted_sum
from goodrate.relevance.tiers import TIERS, cumpt
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import RelevanceScale
from lib.queue import RESULTS
from lib.read_pairs import ReadPairs
from lib.tables import add_table, markdown
from next_labels import PROBE_WEIGHT, cell

NAME = "judge_budget"
JUDGED = (0, 3, 5, 10, 20, 30, 1000)
PLACES = {"Good": 3, "Mid": 2, "Bad": 0}  # ranking.results.TIER_ORDER; what was not judged is 1
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    data: Annotated[str, typer.Option(help="Of chorus, esci150.")] = "chorus,esci150",
    seeds: Annotated[int, typer.Option(help="Deals of the queries into folds.")] = 5,
) -> None:
    """Measure all ways and budgets."""
    for name in data.split(","):
        read = ReadPairs.read(name, model, encoder)
        pairs, cosine = read.pairs, Member.of(read.cosine)
        retrieval = _standard(read.words) + _standard(read.cosine)
        place = np.asarray([pair.query for pair in pairs], dtype=object)
        rows: dict[tuple[str, int], list[np.ndarray]] = {}
        for seed in range(seeds):
            folds = LabelledPairs(pairs, read.scale, seed=seed)
            probe = Member.of(probe_scores(read.features, folds))
            means, spreads = [cosine.mean, probe.mean], [cosine.spread, probe.spread]
            total = weighted_sum([cosine.scores, probe.scores], [1.0, PROBE_WEIGHT], means, spreads)
            p = probabilities_out_of_fold(total, folds)
            for judged in JUDGED:
                for way, scores in orders(p, folds.scale, retrieval, place, judged).items():
                    rows.setdefault((way, judged), []).append(folds.ndcg(scores))
        path = RESULTS / NAME / f"{name}-{model.name}.json"
        result = {"data": name, "model": model.name, "encoder": encoder.name, **code_versions(), "seeds": seeds,
                  "pairs": len(pairs), **measured(rows)}  # fmt: skip
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path)


def orders(
    p: np.ndarray, scale: RelevanceScale, retrieval: np.ndarray, queries: np.ndarray, judged: int
) -> dict[str, np.ndarray]:
    """way -> scores (N,) whose order within a query is that of the way."""
    gain, tier = scale.expected_gain(p), np.asarray([PLACES[TIERS[one]] for one in cumpt(p, scale, 0.5)])
    found = {way: np.zeros(len(gain)) for way in ("served", "behind", "mean")}
    for query in dict.fromkeys(queries.tolist()):
        rows = np.flatnonzero(queries == query)
        rows = rows[np.argsort(-retrieval[rows], kind="stable")]
        seen = np.arange(len(rows)) < judged
        place = -np.arange(len(rows), dtype=float)
        known = np.where(seen, gain[rows], 0.0)
        mean = gain[rows][seen].mean() if seen.any() else 0.0
        keys = {
            "served": (np.where(seen, tier[rows], 1), known),
            "behind": (seen.astype(int), np.where(seen, tier[rows] + known, 0.0)),
            "mean": (np.zeros(len(rows)), np.where(seen, gain[rows], mean)),
        }
        for way, (first, second) in keys.items():
            order = np.lexsort((-place, -second, -first))
            found[way][rows[order]] = -np.arange(len(rows), dtype=float)
    return found


def measured(rows: dict[tuple[str, int], list[np.ndarray]]) -> dict[str, Any]:
    """nDCG@10 of each, and what it is above retrieval alone and above "served"."""
    mean = {key: np.mean(each, axis=0) for key, each in rows.items()}
    table = []
    for (way, judged), values in mean.items():
        more, other = values - mean[way, 0], values - mean["served", judged]
        table.append({
            "way": way, "judged": judged, "ndcg@10": bootstrap_interval(values).as_dict(),
            "minus retrieval": bootstrap_interval(more).as_dict(),
            "minus served": bootstrap_interval(other).as_dict() if way != "served" else None,
        })  # fmt: skip
    return {"queries": len(next(iter(mean.values()))), "rows": table}


def _standard(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean()) / max(float(scores.std()), 1e-9)


def render() -> str:
    """A table per catalogue."""
    parts = []
    for one in (json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))):
        rows = [["first judged", "the others", "nDCG@10", "minus retrieval alone", "minus served"]]
        for row in one["rows"]:
            if row["judged"] in (0, max(JUDGED)) and row["way"] == "behind":
                continue  # nothing is left to place, or nothing to place it beside
            count = "all" if row["judged"] == max(JUDGED) else str(row["judged"])
            more = cell(row["minus served"], "+.3f") if row["minus served"] else "-"
            rows.append([count, row["way"], cell(row["ndcg@10"]), cell(row["minus retrieval"], "+.3f"), more])
        parts.append(f"### {one['data']}\n\n{one['pairs']:,} pairs, {one['queries']} queries whose labels differ, "
                     f"{one['seeds']} deals, {one['model']} and {one['encoder']}\n\n{markdown(rows)}")  # fmt: skip
    return "\n\n".join(parts)


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
