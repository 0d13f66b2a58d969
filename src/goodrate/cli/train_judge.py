"""`goodrate train judge_sft`: judgements to completions, training, tuning, and the dev table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from goodrate.catalog.splits import split_by_group
from goodrate.cli.train import Outcome, with_data
from goodrate.cli.training_data import DataSettings, LabelledPair, TrainingData, load_data
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import judge_sft
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.relevance.judge import Judge, write_judge_card
from goodrate.relevance.prompts import Pair, fitted_prompt, prompt_room
from goodrate.relevance.rationale import label_text, write
from goodrate.relevance.rulebook import load_rulebook
from goodrate.relevance.tiers import cumpt, tiers_of_labels
from goodrate.relevance.tuning import tune
from goodrate.run_folder import RunFolder
from goodrate.scale import RelevanceScale

Settings: Any = with_data(judge_sft.Settings, DataSettings)
DEV_PAIRS = 2000  # of each half; a standard error of about one point of accuracy
FAILED = -1


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train a judge on the data's training part; tune it on one half of the dev queries, measure it on the other."""
    recipe = judge_sft.Settings.model_validate(settings.model_dump(exclude={"data"}))
    if recipe.format.scale != settings.data.scale:
        raise ValueError(
            f"format.scale is {recipe.format.scale!r} and data.scale {settings.data.scale!r}; make them equal"
        )
    data = load_data(settings.data)
    recipe.format.rule_book_hash = cited_book(recipe.format, reasons=data.rationale is not None)
    RunFolder(out / "data").begin(settings.data, settings.data.split_seed)  # refuses to resume on other data
    model = CausalLM.load(recipe.model)
    examples, lost = read_examples(model, data.pairs("train", recipe.format.item_form), recipe)
    folder = judge_sft.train(recipe, examples, out, progress, model)
    tuning, measuring = halves(list(data.pairs("dev", recipe.format.item_form)), settings.data.split_seed)
    tuned = tune_on(folder, tuning)
    rows = dev_table(folder, measuring, data)
    RunFolder(out).write("dev.json", json.dumps(rows, indent=2) + "\n")
    return Outcome(folder, rows, (*data.notes, *lost, tuned))


def cited_book(form: JudgeFormat, reasons: bool) -> str:
    """Hash of the rule book that goes with the judge: the given one, or the package's, which a shop's reasons cite.

    Raises ValueError when another one is named: said before hours of training, not after them.
    """
    shipped = load_rulebook().hash if reasons else ""
    given = load_rulebook(form.rule_book).hash if form.rule_book else form.rule_book_hash or shipped
    for what, expected in (("format.rule_book_hash", form.rule_book_hash), ("the book of the shop's reasons", shipped)):
        if expected and given != expected:
            raise ValueError(f"format.rule_book {form.rule_book or 'hash'} is {given}, {what} {expected}")
    return given


def read_examples(
    model: CausalLM, pairs: Iterable[LabelledPair], recipe: judge_sft.Settings
) -> tuple[list[judge_sft.JudgeExample], list[str]]:
    """The examples, and what was lost: item texts that were cut as judging cuts them, pairs that cannot be judged."""
    examples, cut, refused = [], 0, 0
    for pair in pairs:
        try:
            read, was_cut = example(model, pair, recipe)
        except ValueError:
            refused += 1
            continue
        examples.append(read)
        cut += was_cut
    notes = {"item texts were too long and lost their end": cut, "pairs left out: no room for an item": refused}
    return examples, [f"{count:,} training {what}" for what, count in notes.items() if count]


def example(model: CausalLM, pair: LabelledPair, recipe: judge_sft.Settings) -> tuple[judge_sft.JudgeExample, bool]:
    """A pair as prompt and completion (the whole rationale where it is known, else the label alone); was the item cut?

    The prompt is the one that the judge will read, in at most max_tokens with its completion. Raises ValueError when
    the query leaves no room for an item.
    """
    form = recipe.format
    completion = write(pair.rationale, form.order) if pair.rationale else f"{label_text(pair.label)}\n"
    rooms = (prompt_room(model, form.max_new_tokens), recipe.max_tokens - len(model.encode(completion)) - 1)
    read = Pair(pair.query, pair.item_text, pair.facts)
    (prefix, suffix), cut = fitted_prompt(model, read, form.template, min(r for r in rooms if r is not None))
    return judge_sft.JudgeExample(prefix, suffix, completion), cut


def halves(pairs: list[LabelledPair], seed: int) -> tuple[list[LabelledPair], list[LabelledPair]]:
    """Pairs to tune on and pairs to measure on, apart by query group, each spread over at most DEV_PAIRS.

    With one group of queries all pairs are for measuring.
    """
    sides = split_by_group([pair.query for pair in pairs], {"measure": 0.5, "tune": 0.5}, seed)
    tune, measure = ([pair for pair in pairs if pair.query in sides[name]] for name in ("tune", "measure"))
    return spread(tune, DEV_PAIRS), spread(measure, DEV_PAIRS)


def as_pairs(labelled: Sequence[LabelledPair]) -> tuple[list[Pair], np.ndarray]:
    """What the judge reads, and the gold label positions (N,)."""
    pairs = [Pair(pair.query, pair.item_text, pair.facts) for pair in labelled]
    return pairs, np.asarray([pair.label for pair in labelled])


def tune_on(folder: Path, labelled: Sequence[LabelledPair]) -> str:
    """Set the judge's temperature and tier threshold on these pairs, in its judge.json; says what was set and on what.

    Both stay as they are where there is nothing to choose them on.
    """
    if not labelled:
        return "temperature and tier threshold are not set: dev has one group of queries, and it is measured on"
    judge = Judge.load(folder)
    try:
        tuning = tune(judge, *as_pairs(labelled))
    except ValueError as error:
        return f"temperature and tier threshold are not set: {error}"
    write_judge_card(folder, tuning.card)
    queries = len({pair.query for pair in labelled})
    return (
        f"temperature {tuning.card.temperature:.3f} and tier threshold (beta_cum) {tuning.card.beta_cum:.2f}, set on "
        f"{tuning.used:,} dev pairs of {queries:,} queries; the table measures the dev pairs of other queries"
    )


def dev_table(folder: Path, labelled: Sequence[LabelledPair], data: TrainingData) -> dict[str, dict[str, float]]:
    """The judge on dev pairs, beside the constant that is most frequent in training."""
    judge = Judge.load(folder)
    pairs, gold = as_pairs(labelled)
    probabilities = judge.probabilities(pairs)
    most = np.bincount(data.parts["train"].label_indices(), minlength=len(data.scale)).argmax()
    constant = np.full_like(gold, most)
    given = {
        "judge": (likeliest(probabilities), cumpt(probabilities, data.scale, judge.card.beta_cum)),
        f"always {data.scale.labels[most]}": (
            constant := np.full_like(gold, most),
            tiers_of_labels(constant, data.scale),
        ),
    }
    wanted = tiers_of_labels(gold, data.scale)
    return {
        name: {"tier_accuracy": float((tiers == wanted).mean()), **agreement(gold, labels, data.scale)}
        for name, (labels, tiers) in given.items()
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
