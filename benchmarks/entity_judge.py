"""A judge of entities beside a cosine, words, and a cross-encoder on whole texts with the same base and the same data.

python benchmarks/entity_judge.py run --data chorus,esci150 --start MINILM --folds 0     train and score what is missing
python benchmarks/entity_judge.py cost --start MINILM                milliseconds for 50 and 500 items, warm and cold
python benchmarks/entity_judge.py table --write                                    benchmarks/results/entity_judge.md

MINILM: folder of ../shared/tools/fixtures.py. The queries are dealt into five folds (seed 0, the first deal of
real_judges.py); an arm is trained on four and scores the fifth. Each (data, arm, seed, fold) is a file in the work
folder: run it again and it goes on. Every fold that is there is measured, and a table says how many. The arm "entity"
is the recipe with its defaults; "whatever it learnt" is its best state on held-out training queries, kept in any case.
Arms of UNTRAINED are where it starts. Files with "bare" in their name are of a judge that started from nothing, which
was also overruled by a script: "without X", "no X", "not X" conflict with X. Results hold no text of the data.
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
import torch
import typer

from goodrate.api.overruling import effect
from goodrate.evaluation.classification import area_under_curve, classify
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.learning.fit import fit
from goodrate.learning.records import MicroBatch, Term, Update
from goodrate.learning.source import EpochOrder
from goodrate.models.cross_encoder import CrossEncoder
from goodrate.models.encoder import Encoder
from goodrate.recipes import judge_entity
from goodrate.recipes.ensemble_report import lexical_scores
from goodrate.recipes.score_sum import LabelledPairs, probabilities_out_of_fold
from goodrate.relevance.calibration import softmax
from goodrate.relevance.catalog_entities import learned_rules, sharing
from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.entities import EntityRules
from goodrate.relevance.entity_judge import EntityJudge
from goodrate.relevance.entity_model import CrossEncoderVerdicts
from goodrate.relevance.entity_start import EntityStart
from goodrate.relevance.label_choice import chosen_labels
from goodrate.relevance.overrides import Overrides
from goodrate.relevance.pairs import JudgedPair, Pair
from goodrate.run_folder import RunFolder, code_versions, write_atomic
from lib.labelled_case import LabelledCase as Case
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from lib.timing import between, machine, spread
from real_judges import NEGATIONS, Judged, cell, kept_cosines

NAME = "entity_judge"
CROSS, ENTITY, LEARNT = "cross", "entity", "learnt"
FIELDS, TOKENS = ("title",), 64  # of the cross-encoder on whole texts, as real_trained_judges.py has it
BARE: dict[str, Any] = {"start_fields": None}
# arm -> what its settings change
UNTRAINED: dict[str, dict[str, Any]] = {
    "start": {}, "no_rule": {"language": ""}, "start_goedel": {"tnorm": "goedel"},
    "start_lukasiewicz": {"tnorm": "lukasiewicz"}, "start_mean": {"tnorm": "mean"},
}  # fmt: skip
ARMS: dict[str, dict[str, Any]] = {
    ENTITY: {}, **UNTRAINED, CROSS: {}, "bare": BARE, "no_pretraining": {**BARE, "pretrain": 0},
    "goedel": {"tnorm": "goedel", **BARE}, "lukasiewicz": {"tnorm": "lukasiewicz", **BARE},
    "mean": {"tnorm": "mean", **BARE}, "structured": {"sources": "structured", **BARE},
    "spans": {"sources": "spans", **BARE}, "other_conflict": BARE,
}  # fmt: skip
ROWS = {
    "words": "words (BM25)", "cosine": "cosine of the base, title and description",
    CROSS: "cross-encoder on whole titles", ENTITY: "entities, product logic", LEARNT: "- whatever it learnt",
    "start": "where it starts: the cosine and the rule", "no_rule": "- without the rule for exclusions",
    "start_goedel": "- Goedel", "start_lukasiewicz": "- Lukasiewicz", "start_mean": "- mean pooling, no logic",
    "bare": "entities from nothing", "no_pretraining": "- without pre-training", "goedel": "- Goedel (max pooling)",
    "lukasiewicz": "- Lukasiewicz", "mean": "- mean pooling, no logic", "structured": "- structured attributes alone",
    "spans": "- spans alone", "other_conflict": "- conflicts of constraints the other way",
}  # fmt: skip
NEGATED = r"\b(?:without|not|no|non) (?P<what>\w+)"
NEGATION_RULES = Overrides.model_validate(
    {"override": [{"pattern": NEGATED, "contains": "{what}", "verdict": "conflict", "note": "negations"}]}
)
app = typer.Typer(add_completion=False, help=__doc__)


def parts_of(data: LabelledPairs, fold: int) -> tuple[list[JudgedPair], list[JudgedPair]]:
    """Training and test pairs of a fold."""
    own = list(zip(data.pairs, data.fold.tolist(), strict=True))
    return [pair for pair, its in own if its != fold], [pair for pair, its in own if its == fold]


@app.command()
def run(
    start: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    data: Annotated[str, typer.Option(help="Of chorus, esci150.")] = "chorus,esci150",
    arms: Annotated[str, typer.Option(help=f"Of {', '.join(ARMS)}.")] = ",".join((ENTITY, *UNTRAINED)),
    folds: Annotated[str, typer.Option(help="Which of the five.")] = "0,1,2,3,4",
    updates: Annotated[int, typer.Option(help="Of an arm, in each fold, after pre-training.")] = 40,
    seed: Annotated[int, typer.Option(help="Of training.")] = 0,
    rate: Annotated[float | None, typer.Option(help="Peak learning rate; none: as the recipe has it.")] = None,
) -> None:
    """Train and score what is not there yet, and measure all that is."""
    torch.set_num_threads(1)
    for name in data.split(","):
        judged = Judged.read(name)
        case = Case(name, judged.catalog, LabelledPairs(judged.pairs, judged.scale), start, WORK / NAME)
        for fold in map(int, folds.split(",")):
            for arm in arms.split(","):
                path = WORK / NAME / f"{name}-{arm}-{seed}-{fold}.json"
                if not path.is_file():
                    begun = time.process_time()
                    told = (cross_arm if arm == CROSS else entity_arm)(case, arm, fold, seed, updates, rate)
                    told |= {"cpu_seconds": round(time.process_time() - begun, 1), **code_versions()}
                    write_atomic(path, json.dumps(told))
                    print(path, told["cpu_seconds"], flush=True)
        summarise(case, seed)


def entity_settings(case: Case, arm: str, seed: int, updates: int, rate: float | None) -> judge_entity.Settings:
    """Those of an arm."""
    changed = dict(ARMS[arm])
    if arm == "other_conflict":
        changed |= {"constraints_conflict": case.data.scale.name == "esci"}
    rate = rate if rate is not None or "start_fields" not in changed else 1e-4
    return judge_entity.Settings(
        model=str(case.start), learning_rate=rate, queries=2, items=8, fit={"updates": updates, "seed": seed}, **changed
    )  # fmt: skip


RULES: dict[tuple[str, str], EntityRules] = {}


def set_up(case: Case, settings: judge_entity.Settings, train: Sequence[JudgedPair]) -> judge_entity.Setup:
    """What an arm starts from; a catalogue's rules are found once."""
    key = (case.name, settings.sources)
    if key not in RULES:
        RULES[key] = learned_rules(case.catalog.to_rows(), settings.sources, settings.types)
    return judge_entity.set_up(settings, (), case.data.scale, train, RULES[key])


def entity_arm(case: Case, arm: str, fold: int, seed: int, updates: int, rate: float | None) -> dict[str, Any]:
    """Label probabilities of an entity judge on the fold's pairs, its cost there, and what overruling changes."""
    train, test = parts_of(case.data, fold)
    settings = entity_settings(case, arm, seed, updates, rate)
    setup = set_up(case, settings, train)
    KEPT.append(setup.start)  # vectors of items, for the next arm and fold
    told: dict[str, Any] = {} if arm in UNTRAINED else learnt(case, arm, settings, setup, (train, test), fold)
    setup.model.eval()
    judge = setup.judge()
    begun = time.process_time()
    probabilities = judge.assess(test).probabilities
    cold = time.process_time() - begun
    begun = time.process_time()
    judge.assess(test)
    warm = time.process_time() - begun
    kind = judge.kind_degrees(test)
    told |= {
        "probabilities": probabilities.tolist(), "kind_auc": _kind_auc(test, kind),
        "cost": cost_of(judge, test, cold, warm), "updates": 0 if arm in UNTRAINED else updates,
        "types": len(setup.rules.types), "settings": settings.model_dump(mode="json", exclude={"model"}),
    }  # fmt: skip
    if arm == "bare":
        told["overruled"] = overruled(judge, test)
    return told


KEPT: list[EntityStart | None] = []
Parts = tuple[list[JudgedPair], list[JudgedPair]]


def learnt(
    case: Case, arm: str, settings: judge_entity.Settings, setup: judge_entity.Setup, parts: Parts, fold: int
) -> dict[str, Any]:
    """Train the setup as the recipe does; what it said, and label probabilities of its best state in any case."""
    train, test = parts
    folder = WORK / NAME / f"run-{case.name}-{arm}-{settings.fit.seed}-{fold}"
    training, best = judge_entity.prepared(settings, setup, train)
    notes = judge_entity.learn(
        settings, setup, training, case.catalog.to_rows(), folder, lambda record: None, best
    )  # fmt: skip
    held = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    shutil.rmtree(folder)
    if best is None:
        return {"notes": list(notes)}
    best.restore()
    setup.model.eval()
    in_any_case = setup.judge().assess(test).probabilities if best.update and not best.helped else None
    said = judge_entity.settled(setup.model, best)
    checks = [(one["update"], one["held_out_loss"]) for one in held if "held_out_loss" in one]
    return {"notes": [*notes, said], "before": float(best.before.mean()), "gain": best.gain, "kept": best.helped,
            "checks": checks, LEARNT: None if in_any_case is None else in_any_case.tolist()}  # fmt: skip


def _kind_auc(pairs: Sequence[JudgedPair], kind: np.ndarray) -> float | None:
    told = area_under_curve([pair.label > 0 for pair in pairs], kind)
    return None if told != told else float(told)


def cost_of(judge: EntityJudge, pairs: Sequence[JudgedPair], cold: float, warm: float) -> dict[str, float]:
    """What the fold's pairs cost: entities, calls of the model, and how many of them sharing spared."""
    rows = [judge.table.row(pair.item) for pair in pairs]
    queries = {pair.query for pair in pairs}
    asked = sum(len(row) for row in rows) + len(queries) * len(judge.table.demand)
    return {
        **sharing([row.tolist() for row in rows]), "pairs": len(pairs), "asked": asked, "calls": judge.kept.calls,
        "hit rate of unseen queries": 1 - judge.kept.calls / asked, "cold CPU seconds": cold, "warm CPU seconds": warm,
    }  # fmt: skip


def overruled(judge: EntityJudge, pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """The scripted intervention on queries with a negation."""
    negated = [pair for pair in pairs if set(pair.query.lower().split()) & set(NEGATIONS)]
    if not negated:
        return {"pairs": 0}
    return asdict(effect(judge, judge.overruled(NEGATION_RULES), negated))


class PairBatches:
    """Updates of drawn pairs for the cross-encoder on whole texts; cross-entropy of the label."""

    def __init__(self, model: CrossEncoder, pairs: Sequence[JudgedPair], batch: int, seed: int) -> None:
        texts = field_texts([pair.item for pair in pairs], FIELDS)
        read = model.tokenize([pair.query for pair in pairs], texts)
        self._rows = [(one, pair.label) for one, pair in zip(read, pairs, strict=True) if one is not None]
        self._model = model
        self._order = EpochOrder([len(one.token_ids) for one, _ in self._rows], batch, seed)

    def next(self, step: int) -> Update | None:
        """The update of that number."""
        rows = [self._rows[row] for row in self._order.rows(step) or []]
        batch = {"tokens": self._model.collate([one for one, _ in rows]), "mask": torch.ones(len(rows), dtype=bool),
                 "target": torch.tensor([label for _, label in rows])}  # fmt: skip
        return Update([batch], [Term("cross_entropy", _cross_entropy, mask="mask")])

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a fold that was stopped is begun anew."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See state_dict."""


def _cross_entropy(outputs: Mapping[str, torch.Tensor], batch: MicroBatch) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs["logits"], batch["target"], reduction="none")


class LabelScorer(torch.nn.Module):
    """forward: micro-batch -> {"logits": (N, L)}."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MicroBatch) -> dict[str, torch.Tensor]:
        return {"logits": self.model(batch["tokens"])}


def cross_arm(case: Case, arm: str, fold: int, seed: int, updates: int, rate: float | None) -> dict[str, Any]:
    """Label probabilities of a cross-encoder on whole titles, from nothing: as many updates of as many pairs."""
    rate = 1e-4 if rate is None else rate
    train, test = parts_of(case.data, fold)
    settings = entity_settings(case, ENTITY, seed, updates, rate)
    model = CrossEncoder(Encoder.load(case.start, precision="auto"), len(case.data.scale), TOKENS, seed)
    source = PairBatches(model, train, settings.queries * settings.items, seed)
    groups = [{"params": list(model.network.parameters()), "lr": rate},
              {"params": list(model.head.parameters()), "lr": judge_entity.HEAD_FACTOR * rate}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    folder = RunFolder(WORK / NAME / f"run-{case.name}-{arm}-{seed}-{fold}")
    folder.path.mkdir(parents=True, exist_ok=True)
    model.network.set_attn_implementation("eager")
    fit(LabelScorer(model), source, [optimizer], settings.fit, folder=folder)
    model.eval()
    begun = time.process_time()
    logits = whole_logits(model, test)
    seconds = time.process_time() - begun
    shutil.rmtree(folder.path)
    cost = {"pairs": len(test), "calls": len(test), "cold CPU seconds": seconds, "warm CPU seconds": seconds}
    return {"probabilities": softmax(logits).tolist(), "cost": cost, "updates": updates}


def whole_logits(model: CrossEncoder, pairs: Sequence[Pair]) -> np.ndarray:
    """Numbers (N, O) of pairs."""
    texts = field_texts([pair.item for pair in pairs], FIELDS)
    return model.numbers(model.tokenize([pair.query for pair in pairs], texts))


def summarise(case: Case, seed: int) -> None:
    """All arms on the folds that they have, beside the cosine and words on the same queries."""
    data = case.data
    words = case.kept("words", lambda: lexical_scores(case.catalog, data.pairs))
    judged = Judged(case.name, case.catalog, list(data.pairs), data.scale)
    cosine = case.kept("cosine", lambda: kept_cosines(judged, case.start))
    systems = {"words": (words, None), "cosine": (cosine, probabilities_out_of_fold(cosine, data))}
    told: dict[str, Any] = {}
    for arm in ARMS:
        paths = {fold: WORK / NAME / f"{case.name}-{arm}-{seed}-{fold}.json" for fold in range(data.folds)}
        found = {fold: json.loads(path.read_text()) for fold, path in paths.items() if path.is_file()}
        if found:
            told[arm] = measured_arm(data, found, systems)
        if arm == ENTITY and any(one.get(LEARNT) for one in found.values()):
            other = {fold: {**one, "probabilities": one.get(LEARNT) or one["probabilities"]}
                     for fold, one in found.items()}  # fmt: skip
            told[LEARNT] = measured_arm(data, other, systems)
    folds = sorted({fold for one in told.values() for fold in one["folds"]})
    rivals = {name: measured(data, folds, *one, systems) for name, one in systems.items()}
    result = {"data": case.name, "seed": seed, "base": case.start.name, **code_versions(), "rivals": rivals,
              "rivals' folds": folds, "arms": told}  # fmt: skip
    path = RESULTS / NAME / f"{case.name}-seed{seed}.json"
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(path, flush=True)


def measured_arm(data: LabelledPairs, found: Mapping[int, Mapping[str, Any]], systems: Mapping[str, Any]) -> Any:
    """One arm over its folds, and what it cost."""
    rows = np.full((len(data.pairs), len(data.scale)), np.nan)
    for fold, one in found.items():
        rows[data.fold == fold] = np.asarray(one["probabilities"], dtype=np.float64)
    gains = np.nan_to_num(data.scale.expected_gain(rows), nan=0.0)  # what it fails on stands last
    result = {"folds": sorted(found), **measured(data, sorted(found), gains, rows, systems)}
    first = next(iter(found.values()))
    names = first["cost"]
    result["cost"] = {name: float(np.mean([one["cost"][name] for one in found.values()])) for name in names}
    aucs = [one["kind_auc"] for one in found.values() if one.get("kind_auc") is not None]
    more = {"kind_auc": float(np.mean(aucs))} if aucs else {}
    over = [one["overruled"] for one in found.values() if one.get("overruled", {}).get("pairs")]
    more |= {"overruled": {name: sum(one[name] for one in over) for name in over[0]}} if over else {}
    spent = {"updates": first["updates"], "cpu_seconds": [one["cpu_seconds"] for one in found.values()]}
    return {**result, **spent, **more, "settings": first.get("settings"), "notes": first.get("notes"),
            "kept": [one["kept"] for one in found.values() if "kept" in one],
            "gains": [one["gain"] for one in found.values() if "gain" in one],
            "ended": [one["checks"][-1][0] for one in found.values() if one.get("checks")]}  # fmt: skip


def measured(
    data: LabelledPairs, folds: Sequence[int], scores: np.ndarray, labels: np.ndarray | None, systems: Mapping[str, Any]
) -> dict[str, Any]:
    """A system on the queries and pairs of some folds."""
    there, rows = np.isin(data.query_fold, folds), np.isin(data.fold, folds)
    negation = there & np.asarray([bool(set(q.lower().split()) & set(NEGATIONS)) for q in data.queries])
    values, rivals = data.ndcg(scores), {name: data.ndcg(one) for name, (one, _) in systems.items()}
    told: dict[str, Any] = {"queries": int(there.sum()), "pairs": int(rows.sum()), "negations": int(negation.sum())}
    told["ndcg@10"] = bootstrap_interval(values[there]).as_dict()
    told |= {f"minus {name}": paired_bootstrap_difference(values[there], one[there]).as_dict()
             for name, one in rivals.items()}  # fmt: skip
    if negation.any():
        told["negations ndcg@10"] = bootstrap_interval(values[negation]).as_dict()
        gap = values[negation] - rivals["cosine"][negation]
        told["negations minus cosine"] = bootstrap_interval(gap).as_dict()
    good = data.scale.is_positive[data.labels[rows]]
    told["auc_good"] = float(area_under_curve(good, scores[rows]))
    if labels is not None:
        said = classify(data.labels[rows], chosen_labels(labels[rows]), data.scale)
        told |= {"accuracy": said.accuracy, "macro_f1": said.macro_f1, "failed": said.failed}
    return told


@app.command()
def cost(
    start: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    data: Annotated[str, typer.Option(help="chorus or esci150: where items and a query are from.")] = "esci150",
    rounds: Annotated[int, typer.Option(help="Of each arm, in turn.")] = 5,
    items: Annotated[str, typer.Option(help="How many of one query.")] = "50,500",
) -> None:
    """CPU milliseconds of one query's items on one thread: warm, cold, and a cross-encoder on titles.

    Weights do not change the time, so both models are the base with a new head. Cold: no verdict is known; a new item:
    one more behind the known ones.
    """
    torch.set_num_threads(1)
    judged = Judged.read(data)
    rows, query, scale = judged.catalog.to_rows(), judged.pairs[0].query, judged.scale
    setup = judge_entity.set_up(judge_entity.Settings(model=str(start), start_fields=None), rows, scale)
    setup.model.eval()
    judge = EntityJudge(CrossEncoderVerdicts(setup.model), setup.rules, setup.card)
    whole = CrossEncoder(Encoder.load(start, precision="auto"), len(scale), TOKENS).eval()
    result: dict[str, Any] = {"data": data, "base": start.name, **code_versions(), "machine": machine()}
    for count in map(int, items.split(",")):
        asked = [Pair(query, row) for row in rows[:count]]
        times: dict[str, list[float]] = {"warm": [], "cold": [], "cross-encoder": []}
        slow = max(1, rounds * 50 // count)
        for number in range(rounds):
            judge.assess(asked)
            times["warm"].append(timed(lambda asked=asked: judge.assess(asked)))
            if number < slow:
                judge.kept.forget()
                times["cold"].append(timed(lambda asked=asked: judge.assess(asked)))
                times["cross-encoder"].append(timed(lambda asked=asked: whole_logits(whole, asked)))
        result[f"{count} items, CPU ms"] = {name: spread(one) for name, one in times.items()}
    before = judge.kept.calls
    result["a new item, CPU ms"] = timed(lambda: judge.assess([Pair(query, rows[count])]))
    result["a new item, calls"] = judge.kept.calls - before
    path = RESULTS / NAME / f"cost-{data}.json"
    write_atomic(path, json.dumps(result, indent=1) + "\n")
    print(path, result)


def timed(call: Any) -> float:
    """CPU milliseconds of a call."""
    begun = time.process_time()
    call()
    return 1000 * (time.process_time() - begun)


def render() -> str:
    """A table per catalogue; costs; what overruling did."""
    paths = sorted((RESULTS / NAME).glob("*-seed*.json"), key=lambda path: (path.stem.startswith("bare"), path.stem))
    found = [json.loads(path.read_text()) for path in paths]
    parts = [part for one in found for part in _parts(one)]
    for one in (json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("cost-*.json"))):
        rows = [["items of one query", "warm", "cold", "cross-encoder on titles"]]
        rows += [[name.split(",")[0], *(between(times) for times in told.values())]
                 for name, told in one.items() if name.endswith("items, CPU ms")]  # fmt: skip
        new = f"A new item behind those: {one['a new item, CPU ms']:.1f} ms, {one['a new item, calls']} calls."
        parts += [f"### CPU milliseconds on one thread, {one['data']}", markdown(rows), new]
    return "\n\n".join(parts)


HEAD = ["system", "folds", "queries", "pairs", "nDCG@10", "minus cosine", "minus words", "negations nDCG@10",
        "negations minus cosine", "AUC good", "accuracy", "macro-F1"]  # fmt: skip


def _parts(one: Mapping[str, Any]) -> list[str]:
    rows = [HEAD, *(_cells(name, told, len(one["rivals' folds"])) for name, told in one["rivals"].items())]
    costs = [["arm", "updates", "CPU s a fold", "AUC of the kind alone", "entities an item", "calls a pair",
              "spared by sharing", "cold CPU ms a pair", "warm CPU ms a pair"]]  # fmt: skip
    for arm in sorted(one["arms"], key=list(ROWS).index):
        told, spent = one["arms"][arm], one["arms"][arm]["cost"]
        rows.append(_cells(arm, told, len(told["folds"])))
        per = {name: 1000 * spent[f"{name} CPU seconds"] / spent["pairs"] for name in ("cold", "warm")}
        costs.append([
            ROWS[arm], str(told["updates"]), f"{np.mean(told['cpu_seconds']):.0f}", cell(told.get("kind_auc")),
            cell(spent.get("entities per item"), ".1f"), f"{spent['calls'] / spent['pairs']:.2f}",
            cell(spent.get("hit rate of unseen queries"), ".2f"), f"{per['cold']:.1f}", f"{per['warm']:.3f}",
        ])  # fmt: skip
    told = next((arm["overruled"] for arm in one["arms"].values() if "overruled" in arm), None)
    changed = f"Overruled on negations ({told['pairs']} pairs of queries with one): " + ", ".join(
        f"{name} {told[name]}" for name in ("changed", "better", "worse", "fixed", "broken")
    ) if told else ""  # fmt: skip
    guarded = one["arms"].get(ENTITY, {})
    folds = guarded.get("kept", [])
    kept = f"Training was kept in {sum(folds)} of {len(folds)} folds; it ended after " if folds else ""
    kept += f"{', '.join(map(str, guarded['ended']))} updates." if folds else ""
    bare = "" if "start" in one["arms"] else ", from nothing"
    title = f"### {one['data']}, seed {one['seed']}, {one['base']}{bare}"
    return [title, markdown(rows), markdown(costs), *(text for text in (kept, changed) if text)]


def _cells(name: str, told: Mapping[str, Any], folds: int) -> list[str]:
    numbers = [cell(told.get(m)) for m in ("auc_good", "accuracy", "macro_f1")]
    return [ROWS[name], str(folds), str(told["queries"]), str(told["pairs"]), cell(told["ndcg@10"]),
            *(cell(told.get(m), "+.3f") if m.startswith("minus") else cell(told.get(m)) for m in
              ("minus cosine", "minus words", "negations ndcg@10")),
            cell(told.get("negations minus cosine"), "+.3f"), *numbers]  # fmt: skip


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
