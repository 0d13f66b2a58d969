"""What a vision-language model answers to questions about products, and how often it is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from goodrate.examples.product_tasks import TASKS, UNKNOWN, ProductQuestion, answer_text
from goodrate.models.vision.token_cache import KeptTokens
from goodrate.models.vision_language.answering import answer_logprobs, write
from goodrate.models.vision_language.model import VisionLanguageModel

CHUNK = 64  # questions whose pictures' tokens are in memory at a time


def option_logprobs(
    model: VisionLanguageModel, kept: KeptTokens, questions: Sequence[ProductQuestion]
) -> list[np.ndarray]:
    """log p (options,) of every option of questions that have some."""
    found: list[np.ndarray] = []
    for start in range(0, len(questions), CHUNK):
        part = questions[start : start + CHUNK]
        prompts = [model.prompt_ids(q.prompt) for q in part]
        answers = [[model.answer_ids(answer_text(option, q.wording)) for option in q.options] for q in part]
        values = answer_logprobs(model, prompts, kept.take([q.row for q in part]), answers, CHUNK)
        found += [value.numpy() for value in values]
    return found


def answered(model: VisionLanguageModel, kept: KeptTokens, questions: Sequence[ProductQuestion]) -> list[str]:
    """The most probable option of each question, or what the model writes where any text may be right."""
    said = [""] * len(questions)
    closed = [n for n, q in enumerate(questions) if q.options]
    for n, values in zip(closed, option_logprobs(model, kept, [questions[n] for n in closed]), strict=True):
        said[n] = questions[n].options[int(values.argmax())]
    free = [n for n, q in enumerate(questions) if not q.options]
    for start in range(0, len(free), CHUNK):
        part = free[start : start + CHUNK]
        prompts = [model.prompt_ids(questions[n].prompt) for n in part]
        texts = write(model, prompts, kept.take([questions[n].row for n in part]))
        for n, text in zip(part, texts, strict=True):
            said[n] = text
    return said


def majority(learned: Sequence[ProductQuestion], questions: Sequence[ProductQuestion]) -> list[str]:
    """The trivial predictor: of the options the answer that was most often right to such a question in training."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for q in learned:
        counts.setdefault((q.task, q.form, q.attribute), Counter())[q.answer] += 1
    said = []
    for q in questions:
        seen = counts.get((q.task, q.form, q.attribute), Counter())
        options = q.options or tuple(sorted(seen)) or ("",)
        said.append(max(options, key=lambda name: seen[name]))
    return said


def measured(questions: Sequence[ProductQuestion], said: Sequence[str]) -> dict[str, float]:
    """Per task the share of right answers; of written ones (caption, free) F1 of words; of extraction precision, recall
    and F1 of values, where "unknown" is no value (a value where none is told costs precision)."""
    numbers: dict[str, float] = {}
    for task in TASKS:
        pairs = [(q, answer) for q, answer in zip(questions, said, strict=True) if q.task == task]
        if not pairs:
            continue
        score: Callable[[str, str], float] = _word_f1 if task in ("caption", "free") else lambda a, b: float(a == b)
        numbers[task] = float(np.mean([score(q.answer, answer) for q, answer in pairs]))
    values = [(q.answer, answer) for q, answer in zip(questions, said, strict=True) if q.task == "extract"]
    return numbers | (value_scores(values) if values else {})


def value_scores(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Precision, recall and F1 of (right, said) values; 0 where nothing is said or told.

    >>> value_scores([("red", "red"), ("red", "blue"), ("unknown", "red"), ("blue", "unknown")])
    {'precision': 0.333, 'recall': 0.333, 'f1': 0.333}
    """
    right = sum(told == said != UNKNOWN for told, said in pairs)
    said_values = sum(said != UNKNOWN for _, said in pairs)
    told_values = sum(told != UNKNOWN for told, _ in pairs)
    precision, recall = right / max(1, said_values), right / max(1, told_values)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def _word_f1(right: str, said: str) -> float:
    """F1 of the words of two texts, each as often as it occurs."""
    wanted, found = Counter(right.lower().split()), Counter(said.lower().split())
    shared = sum((wanted & found).values())
    return 2 * shared / max(1, sum(wanted.values()) + sum(found.values()))


def fitted_temperature(values: Sequence[np.ndarray], questions: Sequence[ProductQuestion]) -> float:
    """What option log probabilities are divided by for the least cross-entropy of the right option; 1 without any."""
    right = [(v, q.options.index(q.answer)) for v, q in zip(values, questions, strict=True)]
    if not right:
        return 1.0
    grid = np.geomspace(0.25, 8, 41)
    losses = [np.mean([-log_softmax(v / t)[place] for v, place in right]) for t in grid]
    return float(grid[int(np.argmin(losses))])


def log_softmax(values: np.ndarray) -> np.ndarray:
    """log softmax of a row, in float64."""
    shifted = values.astype(np.float64) - values.max()
    return shifted - np.log(np.exp(shifted).sum())


def table(rows: Mapping[str, dict[str, float]], questions: int) -> dict[str, dict[str, float]]:
    """Rows of a dev table with the number of questions beside."""
    return {name: {**row, "questions": float(questions)} for name, row in rows.items()}
