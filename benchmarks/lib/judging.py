"""Judges: the only file here that opens one, and what is measured of it on the shop's test pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.evaluation.classification import classify, likeliest
from goodrate.relevance.judge import Judge, Pair
from goodrate.relevance.rationale import label_text, parse, step_lines
from goodrate.scale import RelevanceScale
from goodrate.shop.shop import Shop
from lib.queue import ByArm
from lib.shop_data import JudgedPairs, judged_pairs
from lib.statistics import as_digits
from lib.tables import arm_table, averaged

DEV_PAIRS, REASONS, SAMPLED = 1000, 1000, 250  # REASONS: pairs whose steps are decoded; SAMPLED: prompts of pass@k


def open_judge(folder: Path) -> Judge:
    """The judge of a folder."""
    return Judge.load(folder)


def text_pairs(texts: Iterable[tuple[str, str]]) -> list[Pair]:
    """(query, item text) as a judge reads them."""
    return [Pair(query, text) for query, text in texts]


class TextJudge:
    """Any function of (query, item text) pairs, asked as JudgedRelevance asks a judge."""

    def __init__(self, scale: RelevanceScale, score: Callable[[Sequence[tuple[str, str]]], np.ndarray]) -> None:
        self.scale, self._score = scale, score

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """(N, labels)."""
        return self._score([(pair.query, pair.item_text) for pair in pairs])


def with_contexts(pairs: Sequence[Pair], contexts: Iterable[str | None]) -> list[Pair]:
    """The pairs with a retrieved text each."""
    return [replace(pair, context=context) for pair, context in zip(pairs, contexts, strict=True)]


def untrained_judge(folder: Path) -> Judge:
    """The shipped base as a label-first judge; its label answers are random, its cost is that of a trained one."""
    from goodrate.models.causal_lm import CausalLM
    from goodrate.models.nano import nano_folder
    from goodrate.recipes.judge_folder import JudgeFormat, write_judge

    return open_judge(write_judge(CausalLM.load(nano_folder()), JudgeFormat(), folder))


def judge_measures(shop: Shop, test: JudgedPairs, folder: Path, prompts: Sequence[Any], seed: int) -> dict[str, Any]:
    """All of a judge folder: labels, reasons, tiers, pass@k. prompts: those that pass@k samples for."""
    judge = open_judge(folder)
    probabilities = judge.probabilities(test.pairs)
    return {
        **label_scores(shop, test, likeliest(probabilities)), **reason_scores(shop, test, judge),
        "tiers": tier_scores(shop, judge, probabilities, test.gold),
        "pass_at": pass_at(folder, prompts, seed),
    }  # fmt: skip


def label_scores(shop: Shop, test: JudgedPairs, predicted: np.ndarray) -> dict[str, Any]:
    """Scores, accuracy by family and on the tail, and every prediction, so that any two arms can be paired."""
    families = np.asarray([shop.queries[q].family for q in test.rows.tolist()])
    tail = np.asarray([shop.queries[q].tail for q in test.rows.tolist()])
    right = predicted == test.gold
    return {
        **classify(test.gold, predicted, shop.book.scale).as_dict(),
        "accuracy_by_family": {f: float(right[families == f].mean()) for f in sorted(set(families.tolist()))},
        "accuracy_tail": float(right[tail].mean()),
        "predicted": as_digits(predicted),
    }


def reason_scores(shop: Shop, test: JudgedPairs, judge: Judge) -> dict[str, Any]:
    """Own steps against the label (inconsistent), and true steps with a wrong label (strict), over readable reasons."""
    chosen = np.random.default_rng(0).permutation(len(test.gold))[:REASONS]
    verdicts = judge.judge([test.pairs[i] for i in chosen], reasons=True)
    known = [v.inconsistent for v in verdicts if v.inconsistent is not None]
    sound, strict = 0, 0
    for i, verdict in zip(chosen.tolist(), verdicts, strict=True):
        if verdict.reason_status != "ok":
            continue
        stated = stated_steps(verdict, judge.card.order)
        truth = step_lines(shop.rationale(int(test.rows[i]), int(test.items[i])))
        if all(stated.get(step) == truth[step] for step in ("wants", "found", "category", "checks")):
            sound += 1
            strict += verdict.label != test.gold[i]
    return {
        "reasons": len(chosen), "reasons_readable": len(known),
        "inconsistent": float(np.mean(known)) if known else None,
        "sound_steps": sound / len(chosen), "strict_hallucination": strict / max(1, sound),
    }  # fmt: skip


def stated_steps(verdict: Any, order: str) -> dict[str, str]:
    """The lines of a verdict's reason by step; none where it has no label or no reason."""
    if verdict.label is None or verdict.reason is None:
        return {}
    label = label_text(verdict.label)
    text = [label, verdict.reason] if order == "label_first" else [verdict.reason, label]
    return parse("\n".join(text) + "\n", order).steps


def tier_scores(shop: Shop, judge: Judge, probabilities: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Macro-F1 of the three tiers: those of the likeliest label, of CumPT at 0.5, and of CumPT as tuned on dev."""
    from sklearn.metrics import f1_score

    from goodrate.relevance.calibration import softmax
    from goodrate.relevance.tiers import cumpt, tiers_of_labels
    from goodrate.relevance.tuning import tune

    scale, usable = shop.book.scale, ~np.isnan(probabilities).any(axis=1)
    dev = judged_pairs(shop, "dev", DEV_PAIRS, seed=0)
    card = tune(judge, dev.pairs, dev.gold).card
    tuned = softmax(np.log(np.clip(probabilities[usable], 1e-12, None)), card.temperature / judge.card.temperature)
    tiers = {
        "argmax": tiers_of_labels(probabilities[usable].argmax(axis=1), scale),
        "cumpt_0.5": cumpt(probabilities[usable], scale, 0.5),
        "cumpt_tuned": cumpt(tuned, scale, card.beta_cum),
    }
    wanted = tiers_of_labels(gold[usable], scale)
    scores = {name: float(f1_score(wanted, tier, average="macro")) for name, tier in tiers.items()}
    return {**scores, "beta_cum": card.beta_cum, "temperature": card.temperature}


def pass_at(folder: Path, prompts: Sequence[Any], seed: int) -> dict[str, float]:
    """pass@1..8 on prompts. Of a label-first judge it measures the spread of one token, not reasoning."""
    from goodrate.recipes.judge_folder import open_judge as open_model
    from goodrate.recipes.judge_rollouts import JudgeRollouts, PairSampling, policy_examples, sample_pairs

    model, form, rules = open_model(folder)
    examples = policy_examples(model, prompts, form.max_new_tokens)
    how = PairSampling(samples=8, max_new_tokens=form.max_new_tokens)
    _, counts = sample_pairs(model, JudgeRollouts(form, rules), examples, {}, how, seed)
    return {name: value for name, value in counts.items() if name.startswith("pass@")}


REASON_SCORES = {
    "inconsistent": "own steps contradict", "sound_steps": "steps true",
    "strict_hallucination": "steps true, label wrong",
}  # fmt: skip
TIERS = {"argmax": "argmax", "cumpt_0.5": "CumPT 0.5", "cumpt_tuned": "CumPT tuned"}


def details(found: ByArm, arms: Sequence[str]) -> str:
    """The table of judge_measures: accuracy by family, how reasons stand to labels, pass@k, tiers."""
    families = sorted(next(iter(found.values()))[0]["accuracy_by_family"])
    return arm_table(found, arms, {
        **averaged({f: f for f in families}, ".2f", "accuracy_by_family"), **averaged(REASON_SCORES),
        **averaged({"pass@1": "pass@1", "pass@8": "pass@8"}, part="pass_at"), **averaged(TIERS, part="tiers"),
    })  # fmt: skip
