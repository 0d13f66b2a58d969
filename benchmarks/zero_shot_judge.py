"""A language model that is only asked, as a judge of two real catalogues with human grades, beside a cosine.

python benchmarks/zero_shot_judge.py run --model GEMMA --encoder MINILM [--data chorus,esci150] [--pairs 1000]
python benchmarks/zero_shot_judge.py table --write                              benchmarks/results/zero_shot_judge.md

GEMMA, MINILM: folders of ../shared/tools/fixtures.py. Whole queries are drawn (seed 0) until there are enough pairs.
Nothing is trained; the odds that turn a score into labels are set out of fold by query group, for both. nDCG@10 is over
drawn queries whose labels differ; intervals are over queries. Results hold no text of the data.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from goodrate.evaluation.classification import area_under_curve
from goodrate.evaluation.significance import bootstrap_interval, bootstrap_over_groups
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_zero_shot import Settings, zero_shot_card
from goodrate.recipes.score_sum import LabelledPairs
from goodrate.relevance.odds import fit_odds, label_probabilities
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.probe_judge import open_model
from goodrate.relevance.zero_shot_judge import FORMS, ZeroShotJudge
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import get_scale
from lib.queue import RESULTS
from lib.tables import add_table, markdown
from real_judges import Judged, cell, kept_cosines
from search_quality import DATA

NAME = "zero_shot_judge"
CHARACTERS = 160  # of an item, as real_judges.py reads
BLOCK = 100  # pairs between two lines of progress
app = typer.Typer(add_completion=False, help=__doc__)


def drawn(pairs: list[JudgedPair], count: int) -> list[JudgedPair]:
    """Whole queries until there are `count` pairs."""
    by_query: dict[str, list[JudgedPair]] = {}
    for pair in pairs:
        by_query.setdefault(pair.query, []).append(pair)
    queries = random.Random(0).sample(sorted(by_query), len(by_query))
    chosen: list[JudgedPair] = []
    for query in queries:
        if len(chosen) < count:
            chosen += by_query[query]
    return chosen


@app.command()
def run(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a text encoder, to be held against.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = ",".join(DATA),
    pairs: Annotated[int, typer.Option(help="About so many a catalogue.")] = 1000,
) -> None:
    """Ask about the pairs in both forms, and measure."""
    loaded = open_model(str(model))
    for name in data.split(","):
        judged = Judged.read(name)
        scale, chosen = judged.scale.name, drawn(judged.pairs, pairs)
        labelled = LabelledPairs(chosen, judged.scale)
        scores, seconds = {"cosine": kept_cosines(replace(judged, pairs=chosen), encoder)}, {}
        for form in FORMS:
            start = time.process_time()
            scores[form] = asked(loaded, model, form, chosen, scale)
            seconds[form] = len(chosen) / (time.process_time() - start)
        result: dict[str, Any] = {
            "data": name, "model": model.name, "encoder": encoder.name, **code_versions(), "pairs": len(chosen),
            "characters": CHARACTERS,
            "queries": len({pair.query for pair in chosen}), "queries_measured": len(labelled.queries),
            "systems": {one: measured(labelled, values, scores["cosine"]) for one, values in scores.items()},
            "constant_accuracy": float(np.bincount(labelled.labels).max() / len(chosen)),
            "pairs a CPU second": seconds,
        }  # fmt: skip
        path = RESULTS / NAME / f"{name}-{model.name}.json"
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path)


def asked(loaded: CausalLM, model: Path, form: Any, pairs: list[JudgedPair], scale: str) -> np.ndarray:
    """The judge's scores (N,), block by block."""
    settings = Settings(model=str(model), form=form, characters=CHARACTERS)
    judge = ZeroShotJudge(loaded, zero_shot_card(settings, loaded, get_scale(scale)))
    found = []
    for start in range(0, len(pairs), BLOCK):
        found.append(judge.scores(pairs[start : start + BLOCK]))
        print(scale, form, start + len(found[-1]), flush=True)
    return np.concatenate(found)


def measured(data: LabelledPairs, scores: np.ndarray, cosine: np.ndarray) -> dict[str, Any]:
    """Order, good or bad, and labels, each less those of the cosine."""
    by_query, other = data.ndcg(scores), data.ndcg(cosine)
    good = data.scale.is_positive[data.labels]
    right, other_right = (predicted(data, one) == data.labels for one in (scores, cosine))
    queries = [pair.query for pair in data.pairs]

    def over_queries(statistic: Any) -> dict[str, Any]:
        return bootstrap_over_groups(statistic, queries, resamples=500).as_dict()

    return {
        "ndcg@10": bootstrap_interval(by_query).as_dict(),
        "ndcg@10 minus cosine": bootstrap_interval(by_query - other).as_dict(),
        "auc_good": over_queries(lambda at: area_under_curve(good[at], scores[at])),
        "auc_good minus cosine": over_queries(
            lambda at: area_under_curve(good[at], scores[at]) - area_under_curve(good[at], cosine[at])
        ),
        "accuracy": over_queries(lambda at: float(right[at].mean())),
        "accuracy minus cosine": over_queries(lambda at: float(right[at].mean() - other_right[at].mean())),
    }


def predicted(data: LabelledPairs, scores: np.ndarray) -> np.ndarray:
    """Likeliest labels (N,); the odds of each fold are set on the others."""
    standard = (scores - scores.mean()) / max(float(scores.std()), 1e-9)
    labels = np.zeros(len(scores), dtype=np.int64)
    for number in range(data.folds):
        inside = data.fold == number
        odds = fit_odds(standard[~inside], data.labels[~inside], len(data.scale))
        labels[inside] = label_probabilities(standard[inside], *odds).argmax(axis=1)
    return labels


def render() -> str:
    """A table for each catalogue."""
    parts = []
    for one in (json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))):
        metrics = ("ndcg@10", "auc_good", "accuracy")
        rows = [["system", *(head for m in metrics for head in (m, "minus the cosine")), "pairs a CPU second"]]
        for name, row in one["systems"].items():
            numbers = [text for m in metrics for text in (cell(row[m]), cell(row[f"{m} minus cosine"], "+.3f"))]
            speed = one["pairs a CPU second"].get(name)
            rows.append([name, *numbers, "-" if speed is None else f"{speed:.1f}"])
        parts.append(
            f"### {one['data']}\n\n{one['pairs']:,} pairs of {one['queries']} queries, nDCG@10 over "
            f"{one['queries_measured']} whose labels differ; {one['model']}, {one['encoder']}; a constant label is "
            f"right in {one['constant_accuracy']:.3f}\n\n{markdown(rows)}"
        )
    return "\n\n".join(parts)


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
