"""`goodrate train judge_sft`: judgements to completions, training, and the dev table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.cli.train import Outcome, with_data
from goodrate.cli.training_data import DataSettings, LabelledPair, TrainingData, load_data
from goodrate.recipes import judge_sft
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.rationale import label_text, write
from goodrate.relevance.rulebook import load_rulebook
from goodrate.run_folder import RunFolder
from goodrate.scale import RelevanceScale

Settings: Any = with_data(judge_sft.Settings, DataSettings)
DEV_PAIRS = 2000  # a standard error of about one point of accuracy
FAILED = -1


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train a judge on the data's training part and measure it on the dev part."""
    recipe = judge_sft.Settings.model_validate(settings.model_dump(exclude={"data"}))
    if recipe.format.scale != settings.data.scale:
        raise ValueError(
            f"format.scale is {recipe.format.scale!r} and data.scale {settings.data.scale!r}; make them equal"
        )
    data = load_data(settings.data)
    if data.rationale and not recipe.format.rule_book_hash:
        recipe.format.rule_book_hash = load_rulebook().hash  # the book that a shop's rationales cite
    RunFolder(out / "data").begin(settings.data, settings.data.split_seed)  # refuses to resume on other data
    examples = [
        example(pair, recipe.format.order, recipe.format.template)
        for pair in data.pairs("train", recipe.format.item_form)
    ]
    folder = judge_sft.train(recipe, examples, out, progress)
    rows = dev_table(folder, data, recipe.format.item_form)
    RunFolder(out).write("dev.json", json.dumps(rows, indent=2) + "\n")
    return Outcome(folder, rows, data.notes)


def example(pair: LabelledPair, order: str, template: str) -> judge_sft.JudgeExample:
    """A pair as prompt and completion: the whole rationale where it is known, else the label alone."""
    prefix, suffix = judge_prompt(pair.query, pair.item_text, facts=pair.facts, template=template)
    completion = write(pair.rationale, order) if pair.rationale else f"{label_text(pair.label)}\n"
    return judge_sft.JudgeExample(prefix, suffix, completion)


def dev_table(folder: Path, data: TrainingData, item_form: str) -> dict[str, dict[str, float]]:
    """The judge on dev pairs, beside the constant that is most frequent in training."""
    from goodrate.relevance.judge import Judge, Pair

    dev = spread(list(data.pairs("dev", item_form)), DEV_PAIRS)
    gold = np.asarray([pair.label for pair in dev])
    pairs = [Pair(pair.query, pair.item_text, facts=pair.facts) for pair in dev]
    predicted = likeliest(Judge.load(folder).probabilities(pairs))
    most = np.bincount(data.parts["train"].label_indices(), minlength=len(data.scale)).argmax()
    constant = f"always {data.scale.labels[most]}"
    return {
        "judge": agreement(gold, predicted, data.scale),
        constant: agreement(gold, np.full_like(gold, most), data.scale),
    }


def spread(pairs: list[LabelledPair], limit: int) -> list[LabelledPair]:
    """At most `limit` pairs, taken evenly over the whole list, so that all queries have a share."""
    if len(pairs) <= limit:
        return pairs
    return [pairs[round(position)] for position in np.linspace(0, len(pairs) - 1, limit)]


def likeliest(probabilities: np.ndarray) -> np.ndarray:
    """The most probable label (N,), FAILED where the judge gave none: NaN would count as the worst label."""
    failed = np.isnan(probabilities).any(axis=1)
    return np.where(failed, FAILED, np.nan_to_num(probabilities).argmax(axis=1))


def agreement(gold: np.ndarray, predicted: np.ndarray, scale: RelevanceScale) -> dict[str, float]:
    """Accuracy and macro-F1 over the labels that occur in gold; a failure is wrong in both, and counted.

    gold, predicted: (N,) label positions, predicted may be FAILED.
    """
    from sklearn.metrics import accuracy_score, f1_score

    assert gold.max() < len(scale)
    labels = np.unique(gold).tolist()
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": float(f1_score(gold, predicted, labels=labels, average="macro", zero_division=0)),
        "failed": float((predicted == FAILED).sum()),
        "pairs": float(len(gold)),
    }
