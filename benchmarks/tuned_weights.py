"""Channel weights learned from judgements: hybrid search against its better half, cross-validated by query.

python benchmarks/tuned_weights.py run --encoder MINILM      one JSON per catalogue; needs the indexes of search_quality
python benchmarks/tuned_weights.py table --write             benchmarks/results/tuned_weights.md

Each query is measured with the weights that the other folds chose (`goodrate tune`). Results hold no text of the data.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import goodrate as gr
from goodrate.api.tuning import candidates_of, measured
from goodrate.evaluation.choosing import choose, dealt
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.report import numbers
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.evaluation.systems import Task, search_runs
from goodrate.run_folder import code_versions, write_atomic
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from search_quality import DATA, cell, folder, judgements_format

NAME, METRIC = "tuned_weights", "ndcg@10"
HALVES = ("lexical", "dense")
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    encoder: Annotated[Path, typer.Option(help="The folder of the indexes' encoder.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = ",".join(DATA),
) -> None:
    """Measure every candidate on the judged lists, and choose."""
    for name in data.split(","):
        start = time.perf_counter()
        index = gr.Index.open(WORK / "search_quality" / f"{name}-{encoder.name}-title-description", encoder)
        source = DATA[name]
        judgements = gr.read_judgements(
            folder() / source.judgements, scale=source.scale, format=judgements_format(name)
        )  # fmt: skip
        result = {"data": name, "encoder": encoder.name, **compared(index, judgements), **code_versions()}
        result["minutes"] = round((time.perf_counter() - start) / 60, 2)
        path = RESULTS / NAME / f"{name}-{encoder.name}.json"
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path)


def compared(index: gr.Index, judgements: gr.Judgements) -> dict[str, Any]:
    """Both halves, the default, and what the other folds chose, with paired differences."""
    joined = judgements.join(index.items)
    task = Task(joined.queries(), joined.qrels(), judged_only=True)
    halves = {
        mode: numbers(evaluate_run(run, task.qrels, joined.scale, [METRIC], True), METRIC)
        for mode, run in ((mode, search_runs(task, index.searcher, mode).runs[0]) for mode in HALVES)
    }
    candidates = candidates_of(index)
    values = measured(index, task, joined.scale, candidates, METRIC, lambda: None)
    choice = choose(values, dealt(list(task.queries.values())))
    better = max(HALVES, key=lambda mode: float(np.nanmean(halves[mode])))
    systems = {**halves, "default": values[0], "tuned": choice.held_out}
    return {
        "queries": len(values[0]), "candidates": len(candidates), "better_half": better,
        "systems": {name: bootstrap_interval(own).as_dict() for name, own in systems.items()},
        "tuned_minus": {
            name: paired_bootstrap_difference(choice.held_out, own).as_dict()
            for name, own in systems.items() if name != "tuned"
        },
        "kept": choice.is_better, "best": candidates[choice.best].model_dump(),
        "picks": [candidates[pick].model_dump() for pick in choice.picks],
    }  # fmt: skip


def render() -> str:
    """A row a catalogue."""
    rows = [["data (queries), encoder", *HALVES, "hybrid as it is", "tuned, held out", "tuned minus better half",
             "tuned minus hybrid as it is", "tune keeps it", "dense weights that folds chose"]]  # fmt: skip
    for path in sorted((RESULTS / NAME).glob("*.json")):
        one = json.loads(path.read_text())
        systems = [cell(one["systems"][name]) for name in (*HALVES, "default", "tuned")]
        differences = [cell(one["tuned_minus"][name], "+.3f") for name in (one["better_half"], "default")]
        chosen = ", ".join(f"{pick['dense_weight']:g}" for pick in one["picks"])
        what = f"{one['data']} ({one['queries']}), {one['encoder']}"
        rows.append([what, *systems, *differences, "yes" if one["kept"] else "no", chosen])
    return f"nDCG@10 of the judged lists, with 95 % intervals over queries.\n\n{markdown(rows)}"


add_table(app, NAME, render, "The table of all results.")

if __name__ == "__main__":
    app()
