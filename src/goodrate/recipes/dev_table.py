"""The dev table of a trained judge: temperature and tier threshold from half of the queries, scores on the others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from goodrate.catalog.splits import evenly, split_by_group
from goodrate.evaluation.classification import FAILED
from goodrate.examples.contexts import with_contexts
from goodrate.examples.data import TrainingData
from goodrate.recipes.encoder_baseline import fitted_judge
from goodrate.recipes.judge_comparison import WAYS_OUT, Comparison, Scores, compare, pair_losses, warnings_of
from goodrate.recipes.registry import write_rows
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.judge_card import read_judge_card, write_judge_card
from goodrate.relevance.pairs import JudgedPair, gold_labels
from goodrate.relevance.seen_queries import read_seen, write_seen
from goodrate.relevance.tiers import cumpt, tiers_of_labels
from goodrate.relevance.tuning import TEMPERATURE_FLOOR, tune, write_tuning
from goodrate.run_folder import RunFolder
from goodrate.scale import RelevanceScale

DEV_PAIRS = 2000  # of each half; a standard error of about one point of accuracy
MANY_QUERIES = 100  # from so many in the measured half on, judges are compared on that alone
BASELINE_PAIRS = 4000  # labelled pairs that the rival encoder is calibrated on, at most
REPORT_FILE = "comparison.json"


@dataclass(frozen=True)
class DevReport:
    """Rows of the dev table, what was tuned and on what, and what has to be said of the judge before it is used.

    advice: what to try, where there is a warning.
    """

    rows: dict[str, dict[str, float]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    advice: tuple[str, ...] = ()


def tune_and_measure(
    folder: Path, data: TrainingData, others: Mapping[str, Path] | None = None, baseline: bool = True
) -> DevReport:
    """Tune a judge on one half of the dev queries, measure it on the other beside a constant and a calibrated cosine.

    Where half of the queries are too few to tune on, nothing is tuned and all are measured on. The folder's judge.json
    gets the warnings, the folder around it `comparison.json` and `dev.json`; the folder says which queries it has seen,
    itself and through the others. others: judges by name to stand in the
    table above it, as they are. baseline: whether the cosine of data.baseline is a rival.
    """
    _write_seen(folder, data, others or {})
    tuning, measuring = halves(data.pairs("dev"), data.choice.split_seed)
    if tuning and _too_few(tuning):
        measuring = evenly(data.pairs("dev"), DEV_PAIRS)
    tuned = tune_folder(folder, with_contexts(tuning, data.contexts, read_judge_card(folder).contexts))
    judges = {name: open_judge(one) for name, one in {**(others or {}), "judge": folder}.items()}
    rival, note = _baseline(data) if baseline else (None, None)
    judges |= {"encoder": rival} if rival else {}
    rows = {name: answers.row(measuring, data.scale) for name, answers in _answers_of_all(judges, measuring, data)}
    compared = {name: judge for name, judge in judges.items() if name in ("judge", "encoder")}
    comparisons, queries = _comparisons(compared, _all_queries(tuning, measuring), data)
    warnings = (*warnings_of(comparisons, queries), *data.label_warnings)
    _write(folder, rows, comparisons, warnings)
    advice = (WAYS_OUT,) if warnings and baseline else ()
    return DevReport(rows, tuple(one for one in (tuned, note) if one), warnings, advice)


def _all_queries(tuning: list[JudgedPair], measuring: list[JudgedPair]) -> list[JudgedPair]:
    """What judges are compared on: the measured half, and where its queries are few the tuned one too.

    One temperature out of N pairs flatters the log-loss on them by 1 / 2N nats: nothing beside what few queries cost.
    """
    known = {pair.query for pair in measuring}
    more = [pair for pair in tuning if pair.query not in known] if len(known) < MANY_QUERIES else []
    return [*measuring, *more]


def _comparisons(
    judges: Mapping[str, CalibratedJudge], pairs: Sequence[JudgedPair], data: TrainingData
) -> tuple[list[Comparison], int]:
    """The trained judge against the others and the constant on the same pairs; and of how many queries these are."""
    gold, queries = gold_labels(pairs), [pair.query for pair in pairs]
    scores = {
        name: Scores(pair_losses(answers.probabilities, gold), float((answers.labels == gold).mean()))
        for name, answers in _answers_of_all(judges, pairs, data)
    }
    judge = scores.pop("judge")
    return compare(judge, scores, queries, data.choice.split_seed), len(set(queries))


def _answers_of_all(
    judges: Mapping[str, CalibratedJudge], pairs: Sequence[JudgedPair], data: TrainingData
) -> Iterator[tuple[str, _Answers]]:
    """Those of each judge, and of the constant."""
    for name, judge in judges.items():
        yield name, _answers(judge, pairs, data)
    yield from _constant(data, len(pairs)).items()


def _write(
    folder: Path, rows: Mapping[str, Mapping[str, float]], comparisons: Sequence[Comparison], warnings: tuple[str, ...]
) -> None:
    """The warnings into judge.json, all numbers into the run folder."""
    write_judge_card(folder, replace(read_judge_card(folder), warnings=warnings))
    write_rows(folder.parent, rows)
    told = {"comparisons": [one.as_dict() for one in comparisons], "warnings": list(warnings)}
    RunFolder(folder.parent).write(REPORT_FILE, json.dumps(told, indent=2) + "\n")


def _write_seen(folder: Path, data: TrainingData, others: Mapping[str, Path]) -> None:
    """Which queries the judge has seen; those that the judges before it have seen are among them."""
    queries = {"train": {pair.query for pair in data.training_pairs()}, "dev": data.parts["dev"].queries().values()}
    before = {key: part for one in others.values() for key, part in read_seen(one).items()}
    write_seen(folder, queries, before)


def _too_few(pairs: Sequence[JudgedPair]) -> bool:
    """Whether they are too few to set a temperature on."""
    return TEMPERATURE_FLOOR.shortage([pair.query for pair in pairs], gold_labels(pairs), "label") is not None


def _baseline(data: TrainingData) -> tuple[CalibratedJudge | None, str | None]:
    """The cosine of data.baseline, calibrated on the training labels, or why there is none."""
    if data.baseline is None:
        return None, "not compared with an encoder's cosine: name an encoder with data.baseline"
    pairs = evenly(data.training_pairs(), BASELINE_PAIRS)
    try:
        return fitted_judge(data.baseline, data.scale, pairs, gold_labels(pairs)), None
    except (FileNotFoundError, ValueError) as error:
        return None, f"not compared with an encoder's cosine: {error}"


def halves(pairs: list[JudgedPair], seed: int) -> tuple[list[JudgedPair], list[JudgedPair]]:
    """Pairs to tune on and pairs to measure on, apart by query group, each spread over at most DEV_PAIRS.

    With one group of queries all pairs are for measuring.
    """
    sides = split_by_group([pair.query for pair in pairs], {"measure": 0.5, "tune": 0.5}, seed)
    tuning, measuring = ([pair for pair in pairs if pair.query in sides[name]] for name in ("tune", "measure"))
    return evenly(tuning, DEV_PAIRS), evenly(measuring, DEV_PAIRS)


def tune_folder(folder: Path, pairs: Sequence[JudgedPair]) -> str:
    """Set the judge's temperature and tier threshold on these pairs, in its judge.json; says what was set and on what.

    Both stay as they are, and judge.json says why, where there is too little to choose them on.
    """
    try:
        if not pairs:
            raise ValueError("dev has one group of queries, and it is measured on")
        tuning = tune(open_judge(folder), pairs, gold_labels(pairs))
    except ValueError as error:
        note = f"temperature and tier threshold are not set: {error}"
        write_judge_card(folder, replace(read_judge_card(folder), tuning=note))
        return note
    write_tuning(folder, tuning)
    return f"{tuning.basis}; the table measures the dev pairs of other queries"


@dataclass(frozen=True)
class _Answers:
    """What a system says of the dev pairs: probabilities (N, L), labels and tiers (N,)."""

    probabilities: np.ndarray
    labels: np.ndarray
    tiers: np.ndarray

    def row(self, pairs: Sequence[JudgedPair], scale: RelevanceScale) -> dict[str, float]:
        """Its row of the dev table, of these pairs."""
        gold = gold_labels(pairs)
        return {
            "tier_accuracy": float((self.tiers == tiers_of_labels(gold, scale)).mean()),
            "log_loss": float(pair_losses(self.probabilities, gold).mean()),
            **agreement(gold, self.labels, scale),
        }


def _answers(judge: CalibratedJudge, pairs: Sequence[JudgedPair], data: TrainingData) -> _Answers:
    """Those of a judge, with the texts that it reads."""
    probabilities = judge.pair_probabilities(with_contexts(pairs, data.contexts, judge.contexts))
    return _Answers(probabilities, judge.labels(probabilities), cumpt(probabilities, judge.scale, judge.beta_cum))


def _constant(data: TrainingData, count: int) -> dict[str, _Answers]:
    """Those of the trivial judge: the label that is most frequent in training, with the shares of all labels there."""
    counts = np.bincount(data.parts["train"].label_indices(), minlength=len(data.scale))
    most, shares = counts.argmax(), (counts + 1) / (counts + 1).sum()  # add one: no label is impossible
    labels = np.full(count, most)
    name = f"always {data.scale.labels[most]}"
    return {name: _Answers(np.tile(shares, (count, 1)), labels, tiers_of_labels(labels, data.scale))}


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
