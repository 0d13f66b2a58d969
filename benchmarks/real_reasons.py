"""Does a reason help a judge on real text, and does GRPO after it? TaoSR1's chain on the labels of a real catalogue.

python benchmarks/real_reasons.py taught                            what reasons of facts are written, and if they are true
python benchmarks/real_reasons.py run --data esci150 --model GEMMA --encoder MINILM --arms labels,reasons --folds 0
python benchmarks/real_reasons.py table --write                     benchmarks/results/real_reasons.md

GEMMA: a causal language model's folder, best trimmed on the catalogue (goodrate trim); MINILM: a text encoder's. Both of
../shared/tools/fixtures.py. The queries are dealt into five folds (seed 0, as the first deal of real_judges.py); an arm
is trained on four and scores the fifth. Each (data, arm, seed, fold) is a file in the work folder: run it again and it
goes on. The probe reads what real_judges.py kept. Results hold no text of the data.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from goodrate.examples.judge_prompts import judge_prompts
from goodrate.models.adapter import LoraSettings
from goodrate.recipes import judge_dpo, judge_grpo, judge_sft
from goodrate.recipes.judge_folder import open_start
from goodrate.recipes.score_sum import LabelledPairs, Member, ScoreSums, probabilities_out_of_fold, probe_scores
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.lm_judge import LmJudge
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rationale import FACT_STEPS, WORD_FACT, label_text, parse, write
from goodrate.relevance.rulebook import BOOKS, named_rulebook
from goodrate.run_folder import code_versions, write_atomic
from goodrate.teaching.fact_reading import FactReader
from goodrate.teaching.fact_teacher import FactTeacher
from lib.queue import RESULTS, WORK
from lib.tables import add_table, markdown
from real_judges import NEGATIONS, Judged, cell, features_of, kept_cosines, members_of
from real_trained_judges import row

NAME = "real_reasons"
RULES = {"esci150": "esci", "chorus": "graded_0_3"}
ITEM_TOKENS, NEW_TOKENS = 64, 48
SILVER_WEIGHT, LABEL_WEIGHT = 0.5, 8.0  # an example with a reason has some 25 tokens beside its label
EXPLAINED = 48  # pairs whose reason is decoded
ARMS = {
    "labels": "labels alone",
    "reasons": "with reasons",
    "reasons_more": "with reasons, as many updates again",
    "reasons_grpo": "with reasons, then GRPO",
    "reasons_dpo": "with reasons, then DPO",
}
FROM = {"reasons_more": "reasons", "reasons_grpo": "reasons", "reasons_dpo": "reasons"}
app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True)
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
        agreeing = [case.judged.scale.index(rule.label) == pair.label for rule, pair in zip(led, case.data.pairs, strict=True) if rule]  # fmt: skip
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


def looked_up(fact: tuple[str, str, str], pair: JudgedPair, reader: FactReader) -> bool:
    """Whether a fact holds by a search of its own in the item's text; measures and prices are taken as read."""
    kind, value, check = fact
    text = re.sub(r"[\u0300-\u036f]", "", reader.text(pair.item).lower())
    stem = re.escape(value.removesuffix("s") if len(value) > 4 else value)
    there = re.search(rf"(?<![a-z0-9]){stem}", text) is not None
    if kind == WORD_FACT:
        return there == (check == "match") or not value.isascii()
    if kind == "brand":
        own = str(pair.item.get("brand") or "").lower()
        return value.split()[0][:4] in own if check == "match" else value != own
    if kind == "without":
        named = any(word.rstrip("s")[:5] in text for word in value.split())
        return named if check == "conflict" else True if check == "match" else True
    if kind == "identifier":
        return (value in re.sub(r"[^a-z0-9]", "", text)) == (check == "match")
    return True


@app.command()
def run(
    data: Annotated[str, typer.Option(help="chorus or esci150.")],
    model: Annotated[Path, typer.Option(help="Folder of a causal language model.")],
    encoder: Annotated[Path, typer.Option(help="Folder of a text encoder.")],
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
    measure(case, encoder, seed)


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
        told |= explained(case, judge, pairs, probabilities)
    return told


def explained(
    case: Case, judge: LmJudge, pairs: list[JudgedPair], probabilities: np.ndarray
) -> dict[str, Any]:  # fmt: skip
    """Of EXPLAINED pairs, evenly spaced: reasons that can be read, whose facts are all true, whose rule has the label."""
    places = np.linspace(0, len(pairs) - 1, EXPLAINED).astype(int)
    shown, labels = [pairs[place] for place in places], probabilities[places].argmax(axis=1).tolist()
    begun = time.process_time()
    reasons = judge.explain(shown, labels)
    spent = time.process_time() - begun
    reader = case.teacher.reader
    stated, true, whole, readable, follows = 0, 0, 0, 0, 0
    for known, label, one in zip(reader.read(shown), labels, reasons, strict=True):
        read = parse(f"{label_text(label)}\n{one.text}", num_labels=len(case.judged.scale))
        if read.rationale is None or one.status != "ok":
            continue
        readable += 1
        facts = set(read.rationale.facts)
        stated, true = stated + len(facts), true + len(facts & set(known.facts))
        whole += facts <= set(known.facts)
        rule = case.teacher.decide(known)
        follows += rule is not None and rule.id == read.rationale.rule
    said = [one.inconsistent for one in reasons if one.inconsistent is not None]
    tokens = sum(len(judge.model.encode(one.text)) for one in reasons)
    return {
        "explained": EXPLAINED, "readable": readable / EXPLAINED, "facts_true": true / stated if stated else None,
        "reasons_true": whole / readable if readable else None, "rule_follows": follows / readable if readable else None,
        "rule_against_label": float(np.mean(said)) if said else None, "reason_tokens": tokens / EXPLAINED,
        "written_tokens_per_second": tokens / spent,
    }  # fmt: skip


def measure(case: Case, encoder: Path, seed: int) -> None:
    """Measure every arm on the folds that are there, with the controls on the same queries and pairs."""
    for arm in ARMS:
        parts = {fold: WORK / NAME / f"{case.name}-{arm}-{seed}-{fold}.json" for fold in range(case.data.folds)}
        found = {fold: json.loads(path.read_text()) for fold, path in parts.items() if path.is_file()}
        if found:
            result = {"data": case.name, "arm": arm, "seed": seed, **measured(case, found, encoder)}
            out = RESULTS / NAME / f"{case.name}-{arm}-{seed}.json"
            write_atomic(out, json.dumps(result, indent=1) + "\n")
            print(out, result["systems"]["judge"]["ndcg@10"], result["systems"]["judge"]["log_loss"], flush=True)


def measured(case: Case, found: Mapping[int, Mapping[str, Any]], encoder: Path) -> dict[str, Any]:
    """One arm over its folds: alone, added to the sum of what nobody trained, and the controls."""
    data, judged = case.data, case.judged
    logits = np.zeros((len(data.pairs), len(data.scale)))
    for fold, told in found.items():
        logits[data.fold == fold] = np.asarray(told["logits"])
    rows = np.isin(data.fold, list(found))
    there = np.isin(data.query_fold, list(found))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    gain = data.scale.expected_gain(p)
    members = members_of(judged, [encoder])
    probe = probe_scores(features_of(judged, Path("gemma")), data)
    total = ScoreSums(data, members).total({name: one.usual for name, one in members.items()})
    cosine = kept_cosines(judged, encoder)
    known = Member.of(gain[rows])
    mine = (gain - known.mean) / known.spread * total.std()
    scores = {"cosine": cosine, "words": members["words"].scores, "probe": probe, "untrained sum": total,
              "judge": gain, "untrained sum + judge": total + mine,
              "untrained sum + probe": total + (probe - probe.mean()) / probe.std() * total.std()}  # fmt: skip
    labels = {name: probabilities_out_of_fold(scores[name], data) for name in ("cosine", "probe", "untrained sum")}
    labels |= {"judge": p, "constant": constant(data)}
    scores["constant"] = np.zeros(len(data.pairs))
    ndcg = {name: data.ndcg(one) for name, one in scores.items()}
    negation = np.asarray([bool(set(query.lower().split()) & set(NEGATIONS)) for query in data.queries])
    systems = {name: row(data, name, scores[name], labels.get(name), ndcg, there, rows, negation) for name in scores}
    for name, one in labels.items():
        systems[name]["log_loss"] = float(-np.log(np.maximum(one[np.arange(len(one)), data.labels], 1e-12))[rows].mean())
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


def main() -> None:
    """The commands."""
    app()


if __name__ == "__main__":
    main()
