"""Judges from few labels on real catalogues with human grades, beside everything that nobody trained.

python benchmarks/real_judges.py run --data chorus,esci150 --model GEMMA --encoders MINILM,MPNET
python benchmarks/real_judges.py no-labels --data chorus,esci150 --model GEMMA --encoder MINILM   (after it)
python benchmarks/real_judges.py cost --model GEMMA                                          pairs a CPU second
python benchmarks/real_judges.py table --write                                      benchmarks/results/real_judges.md

GEMMA, MINILM, MPNET: folders of ../shared/tools/fixtures.py. What the language model read of the labelled pairs is kept
in the work folder, so another run takes minutes. Numbers are out of fold by query group; each fold seed is a fresh
deal, intervals are over queries on the mean of the seeds. Results hold no text of the data.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import goodrate as gr
from goodrate.evaluation.classification import area_under_curve
from goodrate.evaluation.significance import bootstrap_interval
from goodrate.models.encoder import Encoder
from goodrate.recipes import judge_unlabelled
from goodrate.recipes.encoder_baseline import FIELDS, encoder_card
from goodrate.recipes.ensemble_report import Report, lexical_scores, measured_report
from goodrate.recipes.probe_setup import ProbeSetup
from goodrate.recipes.score_sum import LabelledPairs, ScoreSums, Standardised, probe_scores
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.ensemble_judge import weighted_sum
from goodrate.relevance.judge import open_judge
from goodrate.relevance.pairs import JudgedPair
from goodrate.run_folder import code_versions, write_atomic
from goodrate.scale import get_scale
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from lib.timing import between, machine, spread
from search_quality import DATA, folder, judgements_format

NAME = "real_judges"
COST_PAIRS, COST_ROUNDS = 60, 5
NEGATIONS = ("without", "not", "no", "non")
app = typer.Typer(add_completion=False, help=__doc__)


def labelled_pairs(name: str) -> tuple[gr.Catalog, list[JudgedPair], str]:
    """The catalogue, its judged pairs and their scale."""
    source = DATA[name]
    catalog = gr.read_catalog(folder() / source.catalog, format=source.format)
    judgements = gr.read_judgements(folder() / source.judgements, scale=source.scale, format=judgements_format(name))
    rows = {row["id"]: row for row in catalog.to_rows()}
    each = zip(
        judgements.frame.select("query", "item_id").iter_rows(), judgements.label_indices().tolist(), strict=True
    )
    return catalog, [JudgedPair(query, rows[item], label=label) for (query, item), label in each], source.scale


@app.command()
def run(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoders: Annotated[str, typer.Option(help="Folders of text encoders, the first is the one that is always there.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = ",".join(DATA),
    seeds: Annotated[int, typer.Option(help="Deals of the queries into folds.")] = 5,
) -> None:
    """Read the pairs, and measure over all deals."""
    for name in data.split(","):
        start = time.perf_counter()
        catalog, pairs, scale = labelled_pairs(name)
        features = features_of(name, model, pairs, scale)
        words = lexical_scores(catalog, pairs)
        cosines = {Path(one).name: cosines_of(one, pairs, scale) for one in encoders.split(",")}
        arms = {"one cosine": list(cosines)[:1]} | ({"all cosines": list(cosines)} if len(cosines) > 1 else {})
        result: dict[str, Any] = {
            "data": name, "model": model.name, **code_versions(), "pairs": len(pairs), "seeds": seeds,
            "arms": {arm: measured(words, pairs, scale, features, {n: cosines[n] for n in used}, seeds)
                     for arm, used in arms.items()},
            "minutes": round((time.perf_counter() - start) / 60, 2),
        }  # fmt: skip
        path = RESULTS / NAME / f"{name}-{model.name}.json"
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path)


@app.command()
def no_labels(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    data: Annotated[str, typer.Option(help=f"Of {', '.join(DATA)}.")] = ",".join(DATA),
) -> None:
    """Fit a judge without labels, and order the judged lists by it."""
    for name in data.split(","):
        _, pairs, scale = labelled_pairs(name)
        source, out = DATA[name], WORK / NAME / f"{name}-{model.name}-no-labels"
        settings = judge_unlabelled.Settings(
            catalog=str(folder() / source.catalog), catalog_format=source.format, encoder=str(encoder),
            language_model=str(model), scale=scale,
        )  # fmt: skip
        start = time.perf_counter()
        done = judge_unlabelled.run(settings, None, out, lambda record: print(record, flush=True))
        minutes = round((time.perf_counter() - start) / 60, 2)
        judge: Any = open_judge(done.folder).inner
        probe = judge.members["probe"].head.scores(features_of(name, model, pairs, scale))
        cosine, card = cosines_of(str(encoder), pairs, scale), judge.card
        total = weighted_sum([cosine, probe], card.weights, card.means, card.spreads)
        data_ = LabelledPairs(pairs, get_scale(scale))
        by_query, alone = data_.ndcg(total), data_.ndcg(cosine)
        path = RESULTS / NAME / f"{name}-{model.name}.json"
        result = json.loads(path.read_text())
        good = get_scale(scale).is_positive[data_.labels]
        result["no_labels"] = {
            "ndcg@10": bootstrap_interval(by_query).as_dict(), "cosine": bootstrap_interval(alone).as_dict(),
            "minus cosine": bootstrap_interval(by_query - alone).as_dict(), "minutes": minutes,
            "auc_good": area_under_curve(good, total), "cosine_auc_good": area_under_curve(good, cosine),
        }  # fmt: skip
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path, done.notes[0])


@app.command()
def cost(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    data: Annotated[str, typer.Option(help=f"One of {', '.join(DATA)}.")] = "chorus",
) -> None:
    """Pairs that a probe reads in a CPU second on one thread, in fp32 and in bf16, in turn."""
    import torch

    torch.set_num_threads(1)
    _, pairs, scale = labelled_pairs(data)
    readers = {}
    for precision in ("fp32", "bf16"):
        setup = ProbeSetup.open(str(model), get_scale(scale), FIELDS, 160)
        setup.reader.model.precision = precision
        readers[precision] = setup.reader
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(COST_ROUNDS + 1):  # the first is not kept
        block = pairs[number * COST_PAIRS : (number + 1) * COST_PAIRS]
        for name, reader in readers.items():
            start = time.process_time()
            reader.features(block)
            if number:
                speeds[name].append(len(block) / (time.process_time() - start))
    result = {"data": data, "model": model.name, **code_versions(), "machine": machine(), "pairs": COST_PAIRS,
              "pairs a CPU second": {name: spread(one) for name, one in speeds.items()}}  # fmt: skip
    path = RESULTS / f"{NAME}_cost" / f"{model.name}.json"
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(path, result["pairs a CPU second"])


def features_of(name: str, model: Path, pairs: list[JudgedPair], scale: str) -> np.ndarray:
    """What the language model holds of each pair, (N, D)."""
    setup = ProbeSetup.open(str(model), get_scale(scale), FIELDS, 160)
    path = WORK / NAME / f"{name}-{model.name}.safetensors"
    return setup.features(pairs, path, lambda record: print(record, flush=True))


def cosines_of(encoder: str, pairs: list[JudgedPair], scale: str) -> np.ndarray:
    """Cosine (N,) of each pair."""
    loaded = Encoder.load(encoder, precision="auto")
    return EncoderJudge(loaded, encoder_card(encoder, loaded, get_scale(scale))).cosines(pairs)


def measured(
    words: np.ndarray, pairs: list[JudgedPair], scale: str, features: np.ndarray, cosines: dict[str, np.ndarray],
    seeds: int,
) -> dict[str, Any]:  # fmt: skip
    """All systems over all deals; negations apart."""
    reports = []
    for seed in range(seeds):
        data = LabelledPairs(pairs, get_scale(scale), seed=seed)
        standard = {name: Standardised.of(one) for name, one in cosines.items()}
        sums = ScoreSums(data, standard, probe_scores(features, data))
        reports.append(measured_report(sums, words, features if seed == 0 else None))
    return summary(reports)


def summary(reports: list[Report]) -> dict[str, Any]:
    """Means over the deals, with intervals over queries; each system less the best that nobody trained."""
    first = reports[0]
    negation = np.asarray([bool(set(query.lower().split()) & set(NEGATIONS)) for query in first.data.queries])
    names = [system.name for system in first.systems if system.name != "constant"]
    by_query = {name: np.mean([r.system(name).ndcg10 for r in reports], axis=0) for name in names}
    rival = by_query[first.rival]
    systems = {}
    for name in names:
        values = by_query[name]
        systems[name] = {
            "ndcg@10": bootstrap_interval(values).as_dict(),
            "minus rival": bootstrap_interval(values - rival).as_dict(),
            "negations": bootstrap_interval(values[negation]).as_dict(),
            "negations minus rival": bootstrap_interval((values - rival)[negation]).as_dict(),
        }  # fmt: skip
    rows = [report.rows() for report in reports]
    for name in [*names, "constant"]:
        metrics = rows[0][name]
        systems.setdefault(name, {}).update(
            {m: float(np.mean([row[name][m] for row in rows])) for m in metrics if m != "ndcg@10"}
        )
    return {
        "queries": len(first.data.queries), "negations": int(negation.sum()), "rival": first.rival, "systems": systems,
        "choices": [[r.choice.alpha, r.choice.weight] for r in reports], "curve": first.curve,
    }  # fmt: skip


def render() -> str:
    """A table per catalogue and arm, and its learning curve."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))]
    arms = [part for one in found for arm, values in one["arms"].items() for part in _parts(one, arm, values)]
    rows = [["data", "no labels: nDCG@10", "the cosine", "difference", "AUC good", "of the cosine"]]
    for one in (one for one in found if "no_labels" in one):
        told = one["no_labels"]
        rows.append([
            one["data"], cell(told["ndcg@10"]), cell(told["cosine"]), cell(told["minus cosine"], "+.3f"),
            cell(told["auc_good"]), cell(told["cosine_auc_good"]),
        ])  # fmt: skip
    speeds = [["model", "arithmetic", "pairs a CPU second, median (min to max)"]]
    for one in (json.loads(path.read_text()) for path in sorted((RESULTS / f"{NAME}_cost").glob("*.json"))):
        for name, told in one["pairs a CPU second"].items():
            speeds.append([one["model"], name, between(told)])
    return "\n\n".join([*arms, "### Without labels", markdown(rows), "### Cost", markdown(speeds)])


def _parts(one: dict[str, Any], arm: str, values: dict[str, Any]) -> list[str]:
    head = ["system", "nDCG@10", f"minus {values['rival']}", "nDCG", "negations", "AUC good", "accuracy", "macro-F1",
            "F1 good", "ECE"]  # fmt: skip
    rows = [head]
    for name, row in values["systems"].items():
        numbers = [row.get(m) for m in ("auc_good", "accuracy", "macro_f1", "good_f1", "ece")]
        rows.append([
            name, cell(row.get("ndcg@10")), cell(row.get("minus rival"), "+.3f"), cell(row.get("ndcg")),
            cell(row.get("negations")), *(cell(number) for number in numbers),
        ])  # fmt: skip
    title = (f"### {one['data']}: {arm}\n\n{one['pairs']:,} pairs, {values['queries']} queries whose labels differ "
             f"({values['negations']} negations), {one['seeds']} deals into 5 folds, {one['model']}")  # fmt: skip
    curve = ", ".join(f"{count}: {gain:+.3f}" for count, gain in values["curve"].items())
    return [title, markdown(rows), f"Labelled queries: gain of the usual sum over the cosine. {curve}"]


def cell(value: Any, form: str = ".3f") -> str:
    """A number, with its interval where it has one; - for none."""
    if isinstance(value, dict):
        if value["value"] is None:
            return "-"
        return f"{value['value']:{form}} ({value['low']:{form}} to {value['high']:{form}})"
    return "-" if value is None or value != value else f"{value:{form}}"


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
