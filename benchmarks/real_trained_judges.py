"""Judges that are trained on real catalogues, beside a cosine and words that nobody trained: few labels, few updates.

python benchmarks/real_trained_judges.py run --data chorus,esci150 --start MINILM --arms labels
python benchmarks/real_trained_judges.py run --data chorus --start MINILM --arms bare,bare_silver --updates 30 --learning-rate 1e-4
python benchmarks/real_trained_judges.py run --data chorus --start GEMMA --arms lm,lm_bare --folds 0
python benchmarks/real_trained_judges.py walk --start MINILM --model GEMMA       what docs/judge.md, "Your labels", does
python benchmarks/real_trained_judges.py table --write                  benchmarks/results/real_trained_judges.md

MINILM, GEMMA: folders of ../shared/tools/fixtures.py. The queries are dealt into five folds (seed 0, as the first deal
of real_judges.py); an arm is trained on four and scores the fifth, so a query's number never hangs on its labels or
those of a query like it. Each (data, arm, seed, fold) is a file in the work folder: run it again and it goes on. Every
fold that is there is measured; a table says how many. Items are their titles. Results hold no text of the data.

The arm labels is the recipe with its defaults: it starts at the start's calibrated cosine, and keeps what training
queries that it held out confirm. "whatever it learnt" is the same training with its best state kept in any case. Arms
with "bare" start from nothing.

The arm cosine_first learns the grades of the start's own cosine before the labels, on words out of titles and with cuts
that no label set; that part is one for all folds. In the recipe it also sees the training queries and their labels.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from goodrate.api.training import run_from_settings, settings_with_data
from goodrate.evaluation.classification import classify
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.models.adapter import LoraSettings
from goodrate.models.cross_encoder import CrossEncoder
from goodrate.models.encoder import Encoder
from goodrate.recipes import judge_cross_encoder, judge_encoder, judge_sft
from goodrate.recipes.ensemble_report import lexical_scores
from goodrate.recipes.judge_defaults import with_batch, with_format
from goodrate.recipes.judge_folder import open_start
from goodrate.recipes.score_sum import LabelledPairs, Member, probabilities_out_of_fold
from goodrate.recipes.silver_pairs import Neighbourhood, PretrainSettings, SilverSettings
from goodrate.relevance.calibration import reliability
from goodrate.relevance.cross_encoder_judge import pair_tokens, start_logits
from goodrate.relevance.encoder_judge import EncoderJudge
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.label_choice import chosen_labels
from goodrate.relevance.lm_judge import LmJudge
from goodrate.run_folder import code_versions, new_folder, write_atomic
from goodrate.settings import complete
from lib.labelled_case import LabelledCase as Case
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from lib.timing import machine
from real_judges import NEGATIONS, Judged, cell, kept_cosines
from search_quality import DATA, judgements_format
from search_quality import folder as folder_of_data

NAME = "real_trained_judges"
FIELDS = ["title"]
NEAREST = 2000  # items that silver pairs are made of: encoding all takes longer than the training
CROSS = {
    "labels": ("start",),
    "silver": ("start", "silver"),
    "all_layers": ("start", "all layers"),
    "bare": (),
    "bare_silver": ("silver",),
    "cosine_first": ("pretrain",),
    "cosine_first_silver": ("silver", "pretrain"),
}
LM = ("lm", "lm_bare")
BARE_UPDATES, BARE_RATE = 30, 1e-4  # of what starts from nothing, unless said
ROWS = {"words": "words", "cosine": "cosine of the start, title and description", "labels": "cross-encoder from the cosine",
        "silver": "the same, silver pairs", "all_layers": "the same, all layers trained",
        "bare": "cross-encoder from nothing", "bare_silver": "the same, silver pairs", "cosine_first": "cross-encoder, the cosine's grades first",
        "cosine_first_silver": "the same with silver pairs", "lm": "language model, LoRA",
        "lm_bare": "the same without its start token"}  # fmt: skip
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    data: Annotated[str, typer.Option(help="Of chorus, esci150.")],
    start: Annotated[Path, typer.Option(help="Folder of a text encoder, or of a language model for lm and lm_bare.")],
    arms: Annotated[str, typer.Option(help=f"Of {', '.join((*CROSS, *LM))}.")] = "labels",
    folds: Annotated[str, typer.Option(help="Which of the five.")] = "0,1,2,3,4",
    updates: Annotated[int | None, typer.Option(help="Of an arm, in each fold; none: as the recipe has it.")] = None,
    seed: Annotated[int, typer.Option(help="Of training.")] = 0,
    learning_rate: Annotated[float | None, typer.Option(help="Peak; none: as the recipe has it.")] = None,
) -> None:
    """Train and score the folds that are not there yet; fold by fold, so that all arms get on alike."""
    import torch

    torch.set_num_threads(1)
    for name in data.split(","):
        judged = Judged.read(name)
        case = Case(name, judged.catalog, LabelledPairs(judged.pairs, judged.scale), start, WORK / NAME)
        for fold in map(int, folds.split(",")):
            for arm in arms.split(","):
                path = WORK / NAME / f"{name}-{arm}-{seed}-{fold}.json"
                if path.is_file():
                    continue
                begun = time.process_time()
                part = lm_arm if arm in LM else cross_arm
                told = part(case, arm, fold, seed, updates, learning_rate)
                seconds = round(time.process_time() - begun, 1)
                write_atomic(path, json.dumps({**told, "cpu_seconds": seconds, **code_versions()}))
                print(path, seconds, told.get("said", ""), flush=True)
        summarise(case, seed)


@app.command()
def walk(
    start: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    model: Annotated[Path | None, typer.Option(help="Folder of a language model; without one no judge_sft.")] = None,
    updates: Annotated[int, typer.Option(help="Of judge_sft: enough to measure its speed, not its worth.")] = 6,
) -> None:
    """Follow docs/judge.md, "Your labels", on Chorus with its defaults and data.dev_share = 0.3."""
    import torch

    torch.set_num_threads(1)
    source = DATA["chorus"]
    data = {
        "catalog": str(folder_of_data() / source.catalog), "catalog_format": source.format, "scale": source.scale,
        "judgements": str(folder_of_data() / source.judgements), "dev_share": 0.3, "baseline": str(start),
        "judgements_format": judgements_format("chorus"),
    }  # fmt: skip
    steps: dict[str, dict[str, Any]] = {
        "judge_encoder": {"encoder": str(start)},
        "judge_cross_encoder": {"model": str(start)},
    }
    if model is not None:
        form, budget = {"scale": source.scale}, {"updates": updates, "log_every": 1}
        steps["judge_sft"] = {"model": str(model), "lora": {"rank": 16}, "format": form, "fit": budget}
    for recipe, settings in steps.items():
        out, path = WORK / NAME / f"walk-{recipe}", RESULTS / f"{NAME}_walk" / f"{recipe}.json"
        if path.is_file():
            continue
        begun, told = time.process_time(), Told()
        whole = complete(settings_with_data(recipe), {**settings, "data": data})
        done = run_from_settings(recipe, whole, out, told)
        rates = [one["trained_tokens_per_second"] for one in told.records if "trained_tokens_per_second" in one]
        result = {
            "recipe": recipe, "rows": done.rows, "warnings": list(done.warnings), "updates": len(told.records),
            "cpu_seconds": round(time.process_time() - begun, 1), "plan": told.planned, "machine": machine(1),
            "tokens_per_second": float(np.median(rates)) if rates else None, **code_versions(),
        }  # fmt: skip
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path, json.dumps(done.rows, indent=1), flush=True)


class Told:
    """What a run says while it works."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.planned: dict[str, Any] | None = None

    def __call__(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def plan(self, plan: Any) -> None:
        """judge_sft's own guess."""
        self.planned = asdict(plan)


def cross_arm(
    case: Case, arm: str, fold: int, seed: int, updates: int | None, rate: float | None
) -> dict[str, Any]:  # fmt: skip
    """Label logits of a cross-encoder on the fold's pairs, as the recipe leaves it and with its best state."""
    settings = cross_settings(case, arm, seed, updates, rate)
    pairs = np.asarray(case.data.pairs, dtype=object)
    train, test = pairs[case.data.fold != fold].tolist(), pairs[case.data.fold == fold].tolist()
    if settings.pretrain:
        model = CrossEncoder.load(
            pretrained(case, settings), len(case.scale), settings.max_tokens, precision="fp32"
        )  # fmt: skip
    else:
        encoder = Encoder.load(case.start, precision="fp32")
        model = CrossEncoder(encoder, len(case.scale), settings.max_tokens, seed)
    start = judge_cross_encoder.started(settings, train, case.scale)
    if start is not None:
        model.silence()
    hood = neighbourhood(case, settings) if settings.silver else None
    silver = judge_cross_encoder.silver_of(settings, train, hood)
    task, _ = judge_cross_encoder.task_of(settings, model, train, case.scale, start, silver)
    folder = WORK / NAME / f"run-{case.name}-{arm}-{seed}-{fold}"
    best = judge_cross_encoder.train(settings, model, task, case.scale, folder, lambda record: None)
    begun = time.process_time()
    tokens = pair_tokens(model, [pair.query for pair in test], [pair.item for pair in test], settings.fields)
    numbers = model.numbers(tokens)
    speed = len(test) / (time.process_time() - begun)
    held = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    shutil.rmtree(folder)
    told = {"settings": settings.model_dump(mode="json", exclude={"model"}), "pairs_per_cpu_second": speed, "logits": numbers.tolist()}
    if start is None:
        return told
    own = start_logits(start, test)
    said = judge_cross_encoder.settled(model, task, best)
    left = own + numbers if model.head.weight.any() else own
    losses = [(one["update"], one["held_out_loss"]) for one in held if "held_out_loss" in one]
    checked = {} if best is None else {"before": float(best.before.mean()), "gain": best.gain, "kept": best.helped,
                                       "checks": losses}  # fmt: skip
    return {**told, "logits": left.tolist(), "logits in any case": (own + numbers).tolist(), "said": said, **checked}


def cross_settings(
    case: Case, arm: str, seed: int, updates: int | None, rate: float | None
) -> judge_cross_encoder.Settings:  # fmt: skip
    """Those of an arm; arms that start from nothing as they were measured first."""
    parts = CROSS[arm]
    rate = rate if rate is not None else None if "start" in parts else BARE_RATE
    updates = updates if updates is not None else None if "start" in parts else BARE_UPDATES
    more: dict[str, Any] = {} if rate is None else {"learning_rate": rate}
    if "start" not in parts:
        more |= {"start_fields": None}
    if "start" not in parts or "all layers" in parts:
        more |= {"layers": None}
    return judge_cross_encoder.Settings(
        model=str(case.start), fields=FIELDS, max_tokens=64, queries=6, items=8,
        silver=SilverSettings() if "silver" in parts else None,
        pretrain=PretrainSettings(queries=360) if "pretrain" in parts else None,
        fit={"updates": updates, "seed": seed, "precision": "fp32", "checkpoint_seconds": 900}, **more,
    )  # fmt: skip


def neighbourhood(case: Case, settings: judge_cross_encoder.Settings) -> Neighbourhood:
    """Items of the catalogue with the cosine of the start, whose cuts no label set."""
    encoder = Encoder.load(case.start, precision="fp32")
    items = case.catalog.to_rows()
    drawn = judge_encoder.unlabelled_card(
        judge_encoder.Settings(encoder=str(case.start), fields=settings.fields), encoder, case.scale, items, 0
    )
    return Neighbourhood.drawn(items, EncoderJudge(encoder, drawn), NEAREST, 0)


def pretrained(case: Case, settings: judge_cross_encoder.Settings) -> Path:
    """The start after its own cosine's grades, which no fold has labelled; made once."""
    path = WORK / NAME / f"{case.name}-{settings.fit.seed}-pretrained"
    if path.is_dir():
        return path
    assert settings.pretrain is not None
    begun = time.process_time()
    model = CrossEncoder(
        Encoder.load(case.start, precision="fp32"), len(case.scale), settings.max_tokens, settings.fit.seed
    )
    hood = neighbourhood(case, settings)
    lists = judge_cross_encoder.pretraining_lists(model, settings, [], hood)
    alone = settings.model_copy(update={"order": "none", "fit": settings.fit.model_copy(update={"updates": None})})
    run_folder = path.with_name(f"run-{path.name}")
    judge_cross_encoder.train(
        alone.model_copy(update={"epochs": settings.pretrain.epochs}), model, judge_cross_encoder.Task(lists),
        case.scale, run_folder, lambda record: None,
    )  # fmt: skip
    shutil.rmtree(run_folder)
    with new_folder(path) as beside:
        model.save(beside)
    print(path, round(time.process_time() - begun, 1), flush=True)
    return path


def lm_arm(
    case: Case, arm: str, fold: int, seed: int, updates: int | None, rate: float | None
) -> dict[str, Any]:  # fmt: skip
    """Label probabilities of a language model with an adapter on the fold's pairs."""
    updates, rate = updates or BARE_UPDATES, rate or BARE_RATE
    pairs = np.asarray(case.data.pairs, dtype=object)
    train, test = pairs[case.data.fold != fold].tolist(), pairs[case.data.fold == fold].tolist()
    form = JudgeFormat(scale=case.scale.name, template="nano", item_form="short", item_tokens=48, max_new_tokens=8)
    model = open_start(str(case.start), form)
    if arm == "lm_bare":
        model.prompt_start = ()
    settings = judge_sft.Settings(
        model=case.start.name, format=form, lora=LoraSettings(rank=16), learning_rate=rate, batch_size=16,
        fit={"updates": updates, "seed": seed, "log_every": 1},
    )  # fmt: skip
    settings = with_batch(with_format(settings, model), model, [])
    prompts, _ = judge_prompts(model, train, form, settings.max_tokens, label_completions=True)
    folder = WORK / NAME / f"run-{case.name}-{arm}-{seed}-{fold}"
    judge = LmJudge.load(judge_sft.train(settings, prompts, folder, lambda record: None, model))
    rates = [json.loads(line)["trained_tokens_per_second"] for line in (folder / "metrics.jsonl").open()]
    begun = time.process_time()
    probabilities = judge.assess(test).probabilities
    speed = len(test) / (time.process_time() - begun)
    shutil.rmtree(folder)
    return {
        "logits": np.log(np.maximum(probabilities, 1e-12)).tolist(), "settings": settings.model_dump(mode="json"),
        "pairs_per_cpu_second": speed, "trained_tokens_per_second": float(np.median(rates)),
        "start_token_ids": list(judge.card.start_token_ids),
    }  # fmt: skip


def summarise(case: Case, seed: int) -> None:
    """Measure every arm on the folds that are there, beside the cosine and words on the same queries."""
    words = case.kept("words", lambda: lexical_scores(case.catalog, case.data.pairs))
    rival = "minilm" if (case.start / "modules.json").is_file() else None
    path = WORK / NAME / f"{case.name}-cosine.json"
    if rival is None and not path.is_file():
        print("no cosine yet: run an arm of a text encoder first")
        return
    cosine = case.kept(
        "cosine", lambda: kept_cosines(Judged(case.name, case.catalog, list(case.data.pairs), case.scale), case.start)
    )
    for arm in (*CROSS, *LM):
        parts = {fold: WORK / NAME / f"{case.name}-{arm}-{seed}-{fold}.json" for fold in range(case.data.folds)}
        found = {fold: json.loads(path.read_text()) for fold, path in parts.items() if path.is_file()}
        if found:
            result = measured(case, found, cosine, words)
            out = RESULTS / NAME / f"{case.name}-{arm}-{seed}.json"
            write_atomic(out, json.dumps({"data": case.name, "arm": arm, "seed": seed, **result}, indent=1) + "\n")
            print(out, result["systems"]["judge"]["ndcg@10"], flush=True)


def measured(
    case: Case, found: Mapping[int, Mapping[str, Any]], cosine: np.ndarray, words: np.ndarray
) -> dict[str, Any]:
    """One arm over its folds: alone, added to the cosine, and both rivals on the same queries."""
    data = case.data
    logits = np.full((len(data.pairs), len(data.scale)), np.nan)
    for fold, told in found.items():
        logits[data.fold == fold] = np.asarray(told["logits"])
    fold = dict(zip([pair.query for pair in data.pairs], data.fold.tolist(), strict=True))
    there = np.asarray([fold[query] in found for query in data.queries])
    rows = np.isin(data.fold, list(found))
    filled = np.where(rows[:, None], logits, 0.0)
    p = np.exp(filled - filled.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    gain = data.scale.expected_gain(p)
    known = Member.of(gain[rows])
    alike = Member.of(cosine)
    total = (gain - known.mean) / known.spread + (cosine - alike.mean) / alike.spread
    scores = {"words": words, "cosine": cosine, "judge": gain, "cosine + judge": total}
    labels = {"judge": p, "cosine": probabilities_out_of_fold(cosine, data)}
    negation = np.asarray([bool(set(query.lower().split()) & set(NEGATIONS)) for query in data.queries])
    ndcg = {name: data.ndcg(one) for name, one in scores.items()}
    systems = {name: row(data, name, scores[name], labels.get(name), ndcg, there, rows, negation) for name in scores}
    first = next(iter(found.values()))
    spent = {
        name: [one[name] for one in found.values()]
        for name in ("cpu_seconds", "pairs_per_cpu_second", "trained_tokens_per_second")
        if name in first
    }
    return {
        "folds": sorted(found), "queries": int(there.sum()), "negations": int((negation & there).sum()),
        "pairs": int(rows.sum()), "systems": systems, "settings": first["settings"], **spent,
        "start_token_ids": first.get("start_token_ids"), "commit": first["commit"], "versions": first["versions"],
    }  # fmt: skip


def row(
    data: LabelledPairs, name: str, scores: np.ndarray, labels: np.ndarray | None, ndcg: Mapping[str, np.ndarray],
    there: np.ndarray, rows: np.ndarray, negation: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    """A system on the queries (Q,) and pairs (N,) that are there."""
    values = ndcg[name]
    told: dict[str, Any] = {
        "ndcg@10": bootstrap_interval(values[there]).as_dict(),
        "ndcg": float(np.nanmean(data.ndcg(scores, "ndcg")[there])),
        **{
            f"minus {rival}": paired_bootstrap_difference(values[there], ndcg[rival][there]).as_dict()
            for rival in ("words", "cosine")
            if rival != name
        },
    }
    if (negation & there).sum() > 1:
        told["negations"] = bootstrap_interval(values[negation & there]).as_dict()
        gap = (values - ndcg["cosine"])[negation & there]
        told["negations minus cosine"] = bootstrap_interval(gap).as_dict()
    good = classify(data.labels[rows], np.zeros(int(rows.sum()), dtype=int), data.scale, scores[rows])
    told["auc_good"] = good.auc if name != "words" else None
    if labels is not None:
        said = classify(data.labels[rows], chosen_labels(labels[rows]), data.scale)
        told |= {"accuracy": said.accuracy, "macro_f1": said.macro_f1, "good_f1": said.good_f1}
        told["ece"] = reliability(labels[rows], data.labels[rows]).ece
    return told


def render() -> str:
    """A table per catalogue."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))]
    return "\n\n".join(part for name in dict.fromkeys(one["data"] for one in found) for part in _parts(name, found))


HEAD = ["system", "folds", "queries", "nDCG@10", "minus cosine", "minus words", "nDCG", "negations minus cosine",
        "AUC good", "accuracy", "macro-F1", "F1 good", "ECE", "CPU s a fold", "pairs a CPU s"]  # fmt: skip


def _parts(name: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    mine = [one for one in found if one["data"] == name]
    rows = [HEAD]
    largest = max(mine, key=lambda one: len(one["folds"]))
    rows += [_cells(ROWS[rival], largest, rival) for rival in ("words", "cosine")]
    for one in sorted(mine, key=lambda one: (list(ROWS).index(one["arm"]), one["seed"])):
        rows.append(_cells(f"{ROWS[one['arm']]}, seed {one['seed']}", one, "judge"))
        rows.append(_cells("- added to the cosine", one, "cosine + judge"))
    fit = largest["settings"]["fit"]
    told = f"{fit['updates']} updates a fold; rivals on the queries of the arm with most folds. One deal of five folds."
    rates = [f"{ROWS[one['arm']]}: {np.median(one['trained_tokens_per_second']):.0f} tokens a second in training"
             for one in mine if "trained_tokens_per_second" in one]  # fmt: skip
    return [f"### {name}\n\n{told}", markdown(rows), *rates]


def _cells(title: str, one: Mapping[str, Any], name: str) -> list[str]:
    told = one["systems"][name]
    numbers = [cell(told.get(m)) for m in ("auc_good", "accuracy", "macro_f1", "good_f1", "ece")]
    spent = [f"{np.mean(one['cpu_seconds']):.0f}", f"{np.median(one['pairs_per_cpu_second']):.1f}"]
    return [
        title, str(len(one["folds"])), str(one["queries"]), cell(told["ndcg@10"]),
        cell(told.get("minus cosine"), "+.3f"), cell(told.get("minus words"), "+.3f"), cell(told["ndcg"]),
        cell(told.get("negations minus cosine"), "+.3f"), *numbers, *(spent if name == "judge" else ["-", "-"]),
    ]  # fmt: skip


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
