"""Does a reason help a judge on real text, and does GRPO after it? TaoSR1's chain on the labels of a real catalogue.

python benchmarks/real_reasons.py taught                what reasons of facts are written, and whether they are true
python benchmarks/real_reasons.py run --model GEMMA --encoder MINILM --arms labels,reasons,reasons_grpo
python benchmarks/real_reasons.py table --write         benchmarks/results/real_reasons.md

GEMMA: a causal language model's folder, best trimmed on the catalogue (goodrate trim); MINILM: a text encoder's. Both
are of ../shared/tools/fixtures.py. The queries are dealt into five folds (seed 0, as the first deal of real_judges.py);
an arm is trained on four and scores the fifth. Each (data, arm, seed, fold) is a file in the work folder: run it again
and it goes on. The probe reads what real_judges.py kept. Results hold no text of the data.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from goodrate.examples.judge_prompts import judge_prompts
from goodrate.models.adapter import LoraSettings
from goodrate.recipes import judge_dpo, judge_grpo, judge_sft
from goodrate.recipes.judge_folder import open_start
from goodrate.recipes.score_sum import LabelledPairs, Member, ScoreSums, probabilities_out_of_fold, probe_scores
from goodrate.recipes.untrained_members import COSINE, WORDS
from goodrate.relevance.calibration import softmax
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.lm_judge import LmJudge
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rationale import write
from goodrate.relevance.rulebook import BOOKS, named_rulebook
from goodrate.run_folder import code_versions, write_atomic
from goodrate.teaching.fact_reading import FactReader
from goodrate.teaching.fact_teacher import FactTeacher
from lib.fact_reasons import explained, looked_up
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from real_judges import NEGATIONS, Judged, cell, features_of, members_of
from real_trained_judges import row

NAME = "real_reasons"
RULES = {"esci150": "esci", "chorus": "graded_0_3"}
ITEM_TOKENS, NEW_TOKENS = 64, 48
SILVER_WEIGHT, LABEL_WEIGHT = 0.5, 8.0  # an example with a reason has some 25 tokens beside its label
ARMS = {
    "labels": "labels alone",
    "reasons": "with reasons",
    "reasons_more": "with reasons, as many updates again",
    "reasons_grpo": "with reasons, then GRPO",
    "reasons_dpo": "with reasons, then DPO",
}
FROM = {"reasons_more": "reasons", "reasons_grpo": "reasons", "reasons_dpo": "reasons"}
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True, eq=False)
class Case:
    """Labelled pairs of a catalogue with their reasons of facts."""

    judged: Judged
    data: LabelledPairs

    @classmethod
    def read(cls, name: str) -> Case:
        """One of RULES."""
        judged = Judged.read(name)
        return cls(judged, LabelledPairs(judged.pairs, judged.scale))

    @property
    def name(self) -> str:
        """Of the data."""
        return self.judged.name

    @cached_property
    def teacher(self) -> FactTeacher:
        """With the words and brands of the whole catalogue."""
        return FactTeacher(named_rulebook(RULES[self.name]), FactReader(self.judged.catalog.to_rows()))

    def part(self, fold: int, inside: bool, reasons: bool = False) -> list[JudgedPair]:
        """The pairs of a fold, or of the others; with reasons, where there are some."""
        pairs = [pair for pair, of in zip(self.data.pairs, self.data.fold, strict=True) if (of == fold) == inside]
        if not reasons:
            return pairs
        taught = self.teacher.teach(pairs)
        return [
            replace(pair, reason=one.rationale, weight=SILVER_WEIGHT) if one.rationale else pair
            for pair, one in zip(pairs, taught, strict=True)
        ]

    @property
    def form(self) -> JudgeFormat:
        """What its judges read and write."""
        book = BOOKS[RULES[self.name]]
        return JudgeFormat(
            scale=self.judged.scale.name, template="facts", item_form="short", item_tokens=ITEM_TOKENS,
            max_new_tokens=NEW_TOKENS, rule_book=book, rule_book_hash=self.teacher.book.hash,
        )  # fmt: skip


@app.command()
def taught(data: Annotated[str, typer.Option(help="Of chorus, esci150.")] = ",".join(RULES)) -> None:
    """Count the reasons of facts of all pairs, and look each fact up again in the texts, by other means."""
    for name in data.split(","):
        begun, case = time.process_time(), Case.read(name)
        found = case.teacher.teach(case.data.pairs)
        pairs = [(pair, one.rationale) for pair, one in zip(case.data.pairs, found, strict=True) if one.rationale]
        facts = [(fact, pair) for pair, why in pairs for fact in why.facts]
        looked = [looked_up(fact, pair, case.teacher.reader) for fact, pair in facts]
        rules = Counter(why.rule for _, why in pairs)
        led = [case.teacher.decide(read) for read in case.teacher.reader.read(case.data.pairs)]
        each = zip(led, case.data.pairs, strict=True)
        agreeing = [case.judged.scale.index(rule.label) == pair.label for rule, pair in each if rule]
        by_label = {
            label: [sum(why.label == place for _, why in pairs), int((case.data.labels == place).sum())]
            for place, label in enumerate(case.judged.scale.labels)
        }
        result = {
            "data": name, "pairs": len(found), "written": len(pairs), "by_label": by_label, "rules": dict(rules),
            "failures": dict(Counter(one.failure for one in found if one.failure)),
            "rule follows": len(agreeing), "and has the label": float(np.mean(agreeing)),
            "facts": len(facts), "true": float(np.mean(looked)),
            "facts by kind and check": dict(Counter(f"{kind} {check}" for (kind, _, check), _ in facts)),
            "words": float(np.mean([len(write(why).split()) for _, why in pairs])),
            "cpu_seconds": round(time.process_time() - begun, 1), **code_versions(),
        }  # fmt: skip
        path = RESULTS / f"{NAME}_taught" / f"{name}.json"
        write_atomic(path, json.dumps(result, indent=1) + "\n")
        print(path, result["written"] / result["pairs"], result["true"], flush=True)


@app.command()
def run(
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
    probe: Annotated[Path, typer.Option(help="Folder of the whole model, which real_judges.py read for the probe.")],
    data: Annotated[str, typer.Option(help="chorus or esci150.")] = "esci150",
    arms: Annotated[str, typer.Option(help=f"Of {', '.join(ARMS)}.")] = "labels,reasons,reasons_grpo",
    folds: Annotated[str, typer.Option(help="Which of the five.")] = "0",
    updates: Annotated[int, typer.Option(help="Of SFT, 16 pairs each.")] = 50,
    more: Annotated[int, typer.Option(help="Of what follows.")] = 12,
    seed: Annotated[int, typer.Option(help="Of training.")] = 0,
    learning_rate: Annotated[float, typer.Option(help="Peak, of SFT.")] = 2e-4,
) -> None:
    """Train and score the folds that are not there yet, then measure all that is there."""
    import torch

    torch.set_num_threads(1)
    case = Case.read(data)
    for fold in map(int, folds.split(",")):
        for arm in arms.split(","):
            path = WORK / NAME / f"{data}-{arm}-{seed}-{fold}.json"
            if path.is_file():
                continue
            begun = time.process_time()
            folder = trained(case, arm, fold, seed, model, updates, more, learning_rate)
            spent = time.process_time() - begun
            told = scored(case, folder, fold) | {"training_cpu_seconds": round(spent, 1), "arm": arm}
            write_atomic(path, json.dumps({**told, **code_versions()}))
            print(path, round(spent, 1), {k: v for k, v in told.items() if k != "logits"}, flush=True)
    measure(case, encoder, probe, seed)


def run_folder(case: Case, arm: str, seed: int, fold: int) -> Path:
    """Of a training; its judge stays for the arms that go on from it."""
    return WORK / NAME / f"run-{case.name}-{arm}-{seed}-{fold}"


def trained(
    case: Case, arm: str, fold: int, seed: int, model: Path, updates: int, more: int, rate: float
) -> Path:  # fmt: skip
    """The judge folder of an arm."""
    folder = run_folder(case, arm, seed, fold)
    if arm in ("labels", "reasons"):
        return tuned(case, arm, fold, folder, str(model), seed, updates, rate)
    start = run_folder(case, FROM[arm], seed, fold) / "judge"
    if not start.is_dir():
        raise typer.BadParameter(f"{arm} goes on from {start}: run that arm first")
    if arm == "reasons_more":
        return tuned(case, arm, fold, folder, str(start), seed + 1, updates, rate)
    settings: Any
    if arm == "reasons_grpo":
        settings = judge_grpo.Settings(
            judge=str(start), lora=LoraSettings(rank=16), learning_rate=1e-4,
            rollouts={"prompts": 4, "group_size": 8, "max_new_tokens": NEW_TOKENS, "rounds": 2},
            fit={"updates": more, "seed": seed, "log_every": 1, "precision": "fp32"},
        )  # fmt: skip
        train: Any = judge_grpo.train
    else:
        settings = judge_dpo.Settings(
            judge=str(start), lora=LoraSettings(rank=16), learning_rate=5e-5, batch_size=16,
            sampling={"samples": 4, "max_new_tokens": NEW_TOKENS},
            fit={"updates": more, "seed": seed, "log_every": 1, "precision": "fp32"},
        )  # fmt: skip
        train = judge_dpo.train
    judge = LmJudge.load(start, precision="fp32")
    pairs = case.part(fold, inside=False, reasons=arm == "reasons_dpo")
    if arm == "reasons_dpo":
        pairs = np.random.default_rng(seed).permutation(np.asarray(pairs, dtype=object))[: 16 * more].tolist()
    prompts, _ = judge_prompts(judge.model, pairs, case.form)
    return Path(train(settings, prompts, folder, lambda record: None))


def tuned(
    case: Case, arm: str, fold: int, folder: Path, start: str, seed: int, updates: int, rate: float
) -> Path:  # fmt: skip
    """SFT."""
    form = case.form
    model = open_start(start, form)
    with_reasons = arm != "labels"
    settings = judge_sft.Settings(
        model=Path(start).name, format=form, lora=LoraSettings(rank=16), learning_rate=rate, batch_size=16,
        max_tokens=256, micro_tokens=2048, label_weight=LABEL_WEIGHT if with_reasons else 1.0, epochs=1,
        fit={"updates": updates, "seed": seed, "log_every": 1, "precision": "fp32"},
    )  # fmt: skip
    pairs = case.part(fold, inside=False, reasons=with_reasons)
    prompts, _ = judge_prompts(model, pairs, form, settings.max_tokens, label_completions=True)
    return judge_sft.train(settings, prompts, folder, lambda record: None, model)


def scored(case: Case, folder: Path, fold: int) -> dict[str, Any]:
    """Label probabilities of the fold's pairs, and what the reasons of some of them are worth."""
    pairs = case.part(fold, inside=True)
    judge = LmJudge.load(folder, precision="fp32")
    begun = time.process_time()
    probabilities = judge.assess(pairs).probabilities
    speed = len(pairs) / (time.process_time() - begun)
    logits = np.log(np.maximum(probabilities, 1e-12))
    records = [json.loads(line) for line in (folder.parent / "metrics.jsonl").open()]
    told: dict[str, Any] = {"logits": logits.tolist(), "pairs_per_cpu_second": speed, "updates": len(records)}
    told["trained_tokens"] = sum(one.get("trained_tokens", 0) for one in records)
    if "labels" not in folder.parent.name:
        told |= explained(case.teacher, judge, pairs, probabilities)
    return told


def measure(case: Case, encoder: Path, probe: Path, seed: int) -> None:
    """Measure every arm on the folds that are there, with the controls on the same queries and pairs."""
    for arm in ARMS:
        parts = {fold: WORK / NAME / f"{case.name}-{arm}-{seed}-{fold}.json" for fold in range(case.data.folds)}
        found = {fold: json.loads(path.read_text()) for fold, path in parts.items() if path.is_file()}
        if found:
            result = {
                "data": case.name,
                "arm": arm,
                "seed": seed,
                **measured(case, found, controls_of(case, encoder, probe)),
            }
            out = RESULTS / NAME / f"{case.name}-{arm}-{seed}.json"
            write_atomic(out, json.dumps(result, indent=1) + "\n")
            print(out, result["systems"]["judge"]["ndcg@10"], result["systems"]["judge"]["log_loss"], flush=True)


@dataclass(frozen=True)
class Controls:
    """Scores (N,) by name, of what nobody trained and of the probe, whose head is fitted out of fold."""

    scores: Mapping[str, np.ndarray]

    def sum_with(self, more: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The untrained sum with another score, of the same spread on some rows."""
        total, known = self.scores["untrained sum"], Member.of(more[rows])
        return total + (more - known.mean) / known.spread * total.std()


@lru_cache(maxsize=1)
def controls_of(case: Case, encoder: Path, probe: Path) -> Controls:
    """Of a catalogue."""
    members = members_of(case.judged, [encoder])
    total = ScoreSums(case.data, members).total({name: one.usual for name, one in members.items()})
    read = probe_scores(features_of(case.judged, probe), case.data)
    alone = {name: members[name].scores for name in (COSINE, WORDS)}
    return Controls({**alone, "probe": read, "untrained sum": total})


def measured(case: Case, found: Mapping[int, Mapping[str, Any]], controls: Controls) -> dict[str, Any]:
    """One arm over its folds: alone, added to the sum of what nobody trained, and the controls."""
    data = case.data
    logits = np.zeros((len(data.pairs), len(data.scale)))
    for fold, told in found.items():
        logits[data.fold == fold] = np.asarray(told["logits"])
    rows, there = np.isin(data.fold, list(found)), np.isin(data.query_fold, list(found))
    p = softmax(logits)
    gain = data.scale.expected_gain(p)
    scores = {**controls.scores, "judge": gain, "untrained sum + judge": controls.sum_with(gain, rows)}
    scores["untrained sum + probe"] = controls.sum_with(scores["probe"], np.ones_like(rows))
    scores["constant"] = np.zeros(len(data.pairs))
    labels = {name: probabilities_out_of_fold(scores[name], data) for name in controls.scores}
    labels |= {"judge": p, "constant": constant(data)}
    ndcg = {name: data.ndcg(one) for name, one in scores.items()}
    negation = np.asarray([bool(set(query.lower().split()) & set(NEGATIONS)) for query in data.queries])
    systems = {name: row(data, name, scores[name], labels.get(name), ndcg, there, rows, negation) for name in scores}
    for name, one in labels.items():
        given = one[np.arange(len(one)), data.labels][rows]
        systems[name]["log_loss"] = float(-np.log(np.maximum(given, 1e-12)).mean())
    first = next(iter(found.values()))
    spent = [name for name in first if name not in ("logits", "arm", "commit", "versions", "python", "platform")]
    return {
        "folds": sorted(found), "queries": int(there.sum()), "pairs": int(rows.sum()), "systems": systems,
        **{name: [one[name] for one in found.values()] for name in spent},
        "commit": first["commit"], "versions": first["versions"],
    }  # fmt: skip


def constant(data: LabelledPairs) -> np.ndarray:
    """The shares (N, L) of the labels in the other folds."""
    shares = np.empty((len(data.pairs), len(data.scale)))
    for fold in range(data.folds):
        outside = np.bincount(data.labels[data.fold != fold], minlength=len(data.scale))
        shares[data.fold == fold] = outside / outside.sum()
    return shares


HEAD = ["system", "queries", "nDCG@10", "minus cosine", "AUC good", "accuracy", "macro-F1", "log loss", "updates",
        "CPU min", "tokens a CPU s", "pairs a CPU s"]  # fmt: skip
REASON_HEAD = ["judge", "reasons read", "can be read", "facts true", "all facts true", "rule follows from the texts",
               "rule against the label", "tokens a reason", "tokens a CPU s"]  # fmt: skip
CONTROLS = ("constant", "words", "cosine", "probe", "untrained sum", "untrained sum + probe")


def render() -> str:
    """The tables of a catalogue, and what was written for both."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / NAME).glob("*.json"))]
    parts = [part for name in dict.fromkeys(one["data"] for one in found) for part in tables(name, found)]
    told = [json.loads(path.read_text()) for path in sorted((RESULTS / f"{NAME}_taught").glob("*.json"))]
    return "\n\n".join([*parts, "### Reasons of facts that are written", taught_table(told)])


def tables(name: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of one catalogue: systems, and what the reasons of its judges are worth."""
    mine = sorted(
        (one for one in found if one["data"] == name), key=lambda one: (list(ARMS).index(one["arm"]), one["seed"])
    )
    first, rows, why = mine[0], [HEAD], [REASON_HEAD]
    rows += [cells(control, first["systems"][control], first) for control in CONTROLS]
    for one in mine:
        title = f"{ARMS[one['arm']]}, seed {one['seed']}"
        rate, minutes = np.divide(one["trained_tokens"], one["training_cpu_seconds"]), one["training_cpu_seconds"]
        spent = [str(one["updates"][0]), f"{np.mean(minutes) / 60:.1f}", f"{rate.mean():.0f}" if rate.any() else "-",
                 f"{np.mean(one['pairs_per_cpu_second']):.1f}"]  # fmt: skip
        rows.append(cells(title, one["systems"]["judge"], one, spent))
        rows.append(cells("- added to the untrained sum", one["systems"]["untrained sum + judge"], one))
        if "readable" in one:
            names = ("readable", "facts_true", "reasons_true", "rule_follows", "rule_against_label")
            shares = [f"{value[0]:.2f}" if (value := one[n])[0] is not None else "-" for n in names]
            costs = [f"{one[n][0]:.0f}" for n in ("reason_tokens", "written_tokens_per_second")]
            why.append([title, str(one["explained"][0]), *shares, *costs])
    folds = ", ".join(map(str, first["folds"]))
    said = f"{first['pairs']:,} pairs of {first['queries']} queries whose labels differ: fold {folds} of five."
    return [f"### {name}\n\n{said}", markdown(rows), *([markdown(why)] if len(why) > 1 else [])]


def cells(title: str, told: Mapping[str, Any], one: Mapping[str, Any], spent: Sequence[str] = ("-",) * 4) -> list[str]:
    """A row of the table of systems."""
    numbers = [cell(told.get(m)) for m in ("auc_good", "accuracy", "macro_f1", "log_loss")]
    ranked = title != "constant"
    order = [cell(told["ndcg@10"]), cell(told.get("minus cosine"), "+.3f")] if ranked else ["-", "-"]
    return [title, str(one["queries"]), *order, *(numbers if ranked else ["-", *numbers[1:]]), *spent]


def taught_table(told: Sequence[Mapping[str, Any]]) -> str:
    """How many reasons facts give, by label, and how many of their facts another search confirms."""
    rows = [["catalogue", "pairs", "with a reason", "by label", "facts lead to a rule", "which has the label",
             "facts", "confirmed by another search"]]  # fmt: skip
    for one in told:
        shares = "; ".join(f"{label} {part / whole:.2f}" for label, (part, whole) in one["by_label"].items())
        rows.append([one["data"], f"{one['pairs']:,}", f"{one['written'] / one['pairs']:.3f}", shares,
                     f"{one['rule follows'] / one['pairs']:.3f}", f"{one['and has the label']:.3f}",
                     f"{one['facts']:,}", f"{one['true']:.3f}"])  # fmt: skip
    return markdown(rows)


add_table(app, NAME, render, "The tables of all results.")

if __name__ == "__main__":
    app()
