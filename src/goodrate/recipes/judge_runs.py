"""How the recipes of an LM judge are run on training data: prompts before, the tuned judge and its dev table after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from goodrate.examples.contexts import require_text_reading
from goodrate.examples.data import TrainingData
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.examples.prompts import JudgePrompt
from goodrate.recipes import (
    judge_context,
    judge_curriculum,
    judge_dpo,
    judge_grpo,
    judge_guided,
    judge_sft,
    judge_stepwise,
)
from goodrate.recipes.dev_table import tune_and_measure
from goodrate.recipes.judge_defaults import with_batch, with_format
from goodrate.recipes.judge_folder import open_policy, open_start
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data
from goodrate.recipes.solved import solved_notes
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.rulebook import load_rulebook

Train = Callable[[Any, list[JudgePrompt], Path, Progress], Path]


def run_sft(settings: judge_sft.Settings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train a judge on the data's training part; tune it on one half of the dev queries, measure it on the other."""
    form = settings.format
    require_same_scale(form, data, lambda theirs, ours: f"format.scale is {theirs!r} and data.scale {ours!r}")
    require_text_reading(data.named_contexts, form.contexts)
    form.rule_book_hash = cited_book(form, data)
    model = open_start(settings.model, form)  # before the folder: a run that cannot start binds none to its data
    settings = with_format(settings, model)
    form = settings.format
    if data.taught is not None:
        data.taught.require_rules(form.book())
    pairs = data.training_pairs(form.contexts, hide_contexts=True)
    prompts, lost = judge_prompts(model, pairs, form, settings.max_tokens, label_completions=True)
    settings = with_batch(settings, model, prompts)
    require_same_data(out, data).begin(data.choice, data.choice.split_seed)  # refuses to resume on other data
    judge_sft.train(settings, prompts, out, progress, model, getattr(progress, "plan", None))
    return finished(out, data, {}, lost)


def require_same_scale(form: JudgeFormat, data: TrainingData, told: Callable[[str, str], str]) -> None:
    """ValueError when a judge's labels are not those of the data. told: both scales' names -> what is unequal."""
    if form.relevance_scale != data.scale:
        theirs, ours = form.relevance_scale.name, data.scale.name
        same = " with other labels, gains or edges" if theirs == ours else ""
        raise ValueError(f"{told(theirs, ours)}{same}; make them equal")


def cited_book(form: JudgeFormat, data: TrainingData) -> str:
    """Hash of the rule book that goes with the judge: the given one, or the one that the reasons of the data cite.

    Raises ValueError when another one is named, or that one by nobody: said before hours of training, not after them.
    """
    taught = data.taught.rule_book if data.taught else ""
    package = load_rulebook().hash if data.reasons_known else ""
    cited = taught or package
    if taught not in ("", package) and form.rule_book is None:
        raise ValueError(f"data.rationales cites rule book {taught}: name its file with format.rule_book")
    given = load_rulebook(form.rule_book).hash if form.rule_book else form.rule_book_hash or cited
    source = "the book of data.rationales" if taught else "the book of the shop's reasons"
    for what, expected in (("format.rule_book_hash", form.rule_book_hash), (source, cited)):
        if expected and given != expected:
            raise ValueError(f"format.rule_book {form.rule_book or 'hash'} is {given}, {what} {expected}")
    return given


@dataclass(frozen=True)
class PolicyRun:
    """How a recipe that starts from a judge is run: train(settings, prompts, out, progress) writes out/judge.

    contexts: texts in a prompt, by the settings; None = as many as the judge reads. both_views: prompts show the pair
    without and with its text. require: (settings, prompts), raises ValueError for prompts that it cannot learn from.
    """

    train: Train
    contexts: Callable[[Any], int] | None = None
    both_views: bool = False
    require: Callable[[Any, list[JudgePrompt]], None] = lambda settings, prompts: None

    def __call__(self, settings: Any, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
        """Train the judge of the settings; measure it beside the one it was."""
        count = self.contexts(settings) if self.contexts else None
        prompts = policy_prompts(settings.judge, data, out, count, self.both_views, partial(self.require, settings))
        self.train(settings, prompts, out, progress)
        return finished(out, data, {"before": Path(settings.judge)})


def policy_prompts(
    judge: str, data: TrainingData, out: Path, contexts: int | None = None, both_views: bool = False,
    require: Callable[[list[JudgePrompt]], object] = lambda prompts: None,
) -> list[JudgePrompt]:  # fmt: skip
    """Prompts for a judge from the training part. contexts: texts in a prompt, None = as many as the judge reads.

    require: raises ValueError for prompts that nothing can be learned from.

    Raises ValueError when judge and data have different scales or rule books, or when `out` was begun on other data.
    """
    model, form, _ = open_policy(judge)
    require_same_scale(form, data, lambda theirs, ours: f"judge {judge} has scale {theirs!r}, data.scale is {ours!r}")
    count = form.contexts if contexts is None else contexts
    require_text_reading(data.named_contexts, count)
    folder = require_same_data(out, data)
    _require_book(data, form, judge)
    prompts, _ = judge_prompts(model, data.training_pairs(count), form, both_views=both_views)
    require(prompts)
    folder.begin(data.choice, data.choice.split_seed)  # last: what cannot start binds no folder to its data
    return prompts


def finished(
    out: Path, data: TrainingData, others: Mapping[str, Path], notes: list[str] | tuple[str, ...] = ()
) -> TrainingResult:
    """The judge in `out`, tuned on one half of the dev queries and measured on the other, below the others."""
    report = tune_and_measure(out / "judge", data, others)
    said = (*data.notes, *notes, *solved_notes(out), *report.notes)
    return TrainingResult(out / "judge", report.rows, said, (*report.warnings, *report.advice))


def _require_book(data: TrainingData, form: JudgeFormat, judge: str) -> None:
    """ValueError when the steps of the data cite another rule book than the judge's, or rules that it does not have."""
    if not data.reasons_known:
        return
    book = form.book()
    cited = data.taught.rule_book if data.taught else load_rulebook().hash
    if cited != book.hash:
        whose = "data.rationales cites" if data.taught else "the shop's reasons cite"
        raise ValueError(f"{whose} rule book {cited}, the judge {judge} {book.hash}: both have to follow one book")
    if data.taught is not None:
        data.taught.require_rules(book)


def _require_kinds(settings: judge_context.Settings, prompts: list[JudgePrompt]) -> None:
    if settings.gate == "oracle" and not any(prompt.context_kind for prompt in prompts):
        raise ValueError('gate "oracle" needs to know what texts are worth: data.contexts has no column kind')


def _policy(module: ModuleType) -> Recipe:
    return Recipe(module.Settings, PolicyRun(module.train))


JUDGE_SFT = Recipe(judge_sft.Settings, run_sft)
JUDGE_DPO, JUDGE_GRPO, JUDGE_GUIDED = _policy(judge_dpo), _policy(judge_grpo), _policy(judge_guided)
JUDGE_STEPWISE, JUDGE_CURRICULUM = _policy(judge_stepwise), _policy(judge_curriculum)
JUDGE_CONTEXT = Recipe(
    judge_context.Settings,
    PolicyRun(judge_context.train, lambda settings: settings.contexts, both_views=True, require=_require_kinds),
)
