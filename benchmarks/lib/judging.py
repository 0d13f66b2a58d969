"""What is measured of a judge on the shop's test pairs: labels, reasons, tiers, pass@k."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.evaluation.classification import FAILED, classify
from goodrate.examples.prompts import JudgePrompt
from goodrate.examples.shop_pairs import ShopPairs, sample_shop_pairs
from goodrate.recipes.judge_rollouts import pass_at, sample_rollouts
from goodrate.relevance.judge import CalibratedJudge, calibrated, open_judge
from goodrate.relevance.rationale import step_lines
from goodrate.relevance.tiers import cumpt, tiers_of_labels
from goodrate.relevance.tuning import tune
from goodrate.relevance.verdicts import OK, Verdict
from goodrate.scale import RelevanceScale
from goodrate.shop.shop import Shop
from lib.queue import ByArm
from lib.statistics import as_digits
from lib.tables import arm_table, averaged

DEV_PAIRS, REASONS, SAMPLED = 1000, 1000, 250  # REASONS: pairs whose steps are decoded; SAMPLED: prompts of pass@k


def judge_measures(
    shop: Shop, test: ShopPairs, folder: Path, prompts: Sequence[JudgePrompt], seed: int
) -> dict[str, Any]:
    """All of a judge folder: labels, reasons, tiers, pass@k. prompts: those that pass@k samples for."""
    judge = open_judge(folder)
    probabilities = judge.pair_probabilities(test.pairs)
    return {
        **label_scores(shop, test, judge.labels(probabilities)), **reason_scores(shop, test, judge),
        "tiers": tier_scores(shop, judge, probabilities, test.gold),
        "pass_at": sampled_pass_at(folder, prompts, seed),
    }  # fmt: skip


def label_scores(shop: Shop, test: ShopPairs, predicted: np.ndarray) -> dict[str, Any]:
    """Scores, accuracy by family and on the tail, and every prediction, so that any two arms can be paired."""
    families = np.asarray([shop.queries[q].family for q in test.queries.tolist()])
    tail = np.asarray([shop.queries[q].tail for q in test.queries.tolist()])
    right = predicted == test.gold
    return {
        **classify(test.gold, predicted, shop.book.scale).as_dict(),
        "accuracy_by_family": {f: float(right[families == f].mean()) for f in sorted(set(families.tolist()))},
        "accuracy_tail": float(right[tail].mean()),
        "predicted": as_digits(predicted),
    }


def reason_scores(shop: Shop, test: ShopPairs, judge: CalibratedJudge) -> dict[str, Any]:
    """Own steps against the label (inconsistent), and true steps with a wrong label (strict), over readable reasons."""
    chosen = np.random.default_rng(0).permutation(len(test.gold))[:REASONS].tolist()
    verdicts = judge.pair_verdicts([test.pairs[i] for i in chosen], reasons=True)
    known = contradictions(verdicts)
    sound, strict = 0, 0
    for i, verdict, label in zip(chosen, verdicts, labels_of(verdicts, judge.scale), strict=True):
        if verdict.explanation is None or verdict.explanation.status != OK:
            continue
        stated, truth = stated_steps(verdict), step_lines(shop.rationale(int(test.queries[i]), int(test.items[i])))
        if all(stated.get(step) == truth[step] for step in ("wants", "found", "category", "checks")):
            sound += 1
            strict += label != test.gold[i]
    return {
        "reasons": len(chosen), "reasons_readable": len(known),
        "inconsistent": float(np.mean(known)) if known else None,
        "sound_steps": sound / len(chosen), "strict_hallucination": strict / max(1, sound),
    }  # fmt: skip


def labels_of(verdicts: Sequence[Verdict], scale: RelevanceScale) -> np.ndarray:
    """Label positions (N,), FAILED where there is none."""
    return np.asarray([FAILED if verdict.label is None else scale.index(verdict.label) for verdict in verdicts])


def contradictions(verdicts: Sequence[Verdict]) -> list[bool]:
    """Whether label and own steps contradict each other, of the verdicts of which it can be told."""
    known = [verdict.explanation.inconsistent for verdict in verdicts if verdict.explanation]
    return [one for one in known if one is not None]


def stated_steps(verdict: Verdict) -> dict[str, str]:
    """The lines of a verdict's reason by step; none without a reason."""
    return {step.name: step.line for step in verdict.explanation.steps} if verdict.explanation else {}


def tier_scores(shop: Shop, judge: CalibratedJudge, probabilities: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Macro-F1 of the three tiers: those of the likeliest label, of CumPT at 0.5, and of CumPT as tuned on dev."""
    from sklearn.metrics import f1_score

    scale, usable = shop.book.scale, ~np.isnan(probabilities).any(axis=1)
    dev = sample_shop_pairs(shop, "dev", DEV_PAIRS, seed=0)
    tuning = tune(judge, dev.pairs, dev.gold)
    tuned = calibrated(probabilities[usable], tuning.temperature / judge.temperature)
    tiers = {
        "argmax": tiers_of_labels(probabilities[usable].argmax(axis=1), scale),
        "cumpt_0.5": cumpt(probabilities[usable], scale, 0.5),
        "cumpt_tuned": cumpt(tuned, scale, tuning.beta_cum),
    }
    wanted = tiers_of_labels(gold[usable], scale)
    scores = {name: float(f1_score(wanted, tier, average="macro")) for name, tier in tiers.items()}
    return {**scores, "beta_cum": tuning.beta_cum, "temperature": tuning.temperature}


def sampled_pass_at(folder: Path, prompts: Sequence[JudgePrompt], seed: int) -> dict[str, float]:
    """pass@1..8 on prompts. Of a label-first judge it measures the spread of one token, not reasoning."""
    import torch

    rollout, _ = sample_rollouts(folder, prompts, 8, seed, "pairs")
    right = [
        parsed is not None and parsed.label == prompts[group].label
        for parsed, group in zip(rollout.parsed, rollout.group.tolist(), strict=True)
    ]
    return pass_at(torch.tensor(right).view(len(prompts), 8))


REASON_SCORES = {
    "inconsistent": "own steps contradict", "sound_steps": "steps true",
    "strict_hallucination": "steps true, label wrong",
}  # fmt: skip
TIERS = {"argmax": "argmax", "cumpt_0.5": "CumPT 0.5", "cumpt_tuned": "CumPT tuned"}


def details(by_arm: ByArm, arms: Sequence[str]) -> str:
    """The table of judge_measures: accuracy by family, how reasons stand to labels, pass@k, tiers."""
    families = sorted(next(iter(by_arm.values()))[0]["accuracy_by_family"])
    return arm_table(by_arm, arms, {
        **averaged({f: f for f in families}, ".2f", "accuracy_by_family"), **averaged(REASON_SCORES),
        **averaged({"pass@1": "pass@1", "pass@8": "pass@8"}, part="pass_at"), **averaged(TIERS, part="tiers"),
    })  # fmt: skip
