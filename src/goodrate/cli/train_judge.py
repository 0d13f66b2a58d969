"""`goodrate train judge_sft`: judgements to completions, training, and the dev table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.cli.train import Outcome, with_data
from goodrate.cli.training_data import DataSettings, LabelledPair, TrainingData, load_data
from goodrate.recipes import judge_sft
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.rationale import label_text, write
from goodrate.run_folder import RunFolder
from goodrate.scale import RelevanceScale

Settings: Any = with_data(judge_sft.Settings, DataSettings)
DEV_PAIRS = 2000  # a standard error of about one point of accuracy


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train a judge on the data's training part and measure it on the dev part."""
    recipe = judge_sft.Settings.model_validate(settings.model_dump(exclude={"data"}))
    if recipe.format.scale != settings.data.scale:
        raise ValueError(
            f"format.scale is {recipe.format.scale!r} and data.scale {settings.data.scale!r}; make them equal"
        )
    data = load_data(settings.data)
    RunFolder(out / "data").begin(settings.data, settings.data.split_seed)  # refuses to resume on other data
    examples = [example(pair, recipe.format.order, recipe.format.template) for pair in data.pairs("train")]
    folder = judge_sft.train(recipe, examples, out, progress)
    rows = dev_table(folder, data)
    RunFolder(out).write("dev.json", json.dumps(rows, indent=2) + "\n")
    return Outcome(folder, rows, data.notes)


def example(pair: LabelledPair, order: str, template: str) -> judge_sft.JudgeExample:
    """A pair as prompt and completion: the whole rationale where it is known, else the label alone."""
    prefix, suffix = judge_prompt(pair.query, pair.item_text, facts=pair.facts, template=template)
    completion = write(pair.rationale, order) if pair.rationale else f"{label_text(pair.label)}\n"
    return judge_sft.JudgeExample(prefix, suffix, completion)


def dev_table(folder: Path, data: TrainingData) -> dict[str, dict[str, float]]:
    """The judge on dev pairs, beside the constant that is most frequent in training."""
    from goodrate.relevance.judge import Judge, Pair

    dev = spread(list(data.pairs("dev")), DEV_PAIRS)
    gold = np.asarray([pair.label for pair in dev])
    pairs = [Pair(pair.query, pair.item_text, facts=pair.facts) for pair in dev]
    predicted = np.asarray(Judge.load(folder).probabilities(pairs)).argmax(axis=1)
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


def agreement(gold: Iterable[int], predicted: Iterable[int], scale: RelevanceScale) -> dict[str, float]:
    """Accuracy and macro-F1 over the labels that occur in gold or prediction, and the number of pairs."""
    from sklearn.metrics import accuracy_score, f1_score

    gold, predicted = np.asarray(list(gold)), np.asarray(list(predicted))
    present = sorted(set(gold.tolist()) | set(predicted.tolist()))
    assert present[-1] < len(scale)
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        "macro_f1": float(f1_score(gold, predicted, labels=present, average="macro", zero_division=0)),
        "pairs": float(len(gold)),
    }
