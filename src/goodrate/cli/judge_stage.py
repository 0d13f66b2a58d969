"""What the stages after SFT share on the command line: prompts from judgements before, the dev table after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from goodrate.cli.context_input import require_reader, with_contexts
from goodrate.cli.judge_examples import read_prompts
from goodrate.cli.judge_table import measured
from goodrate.cli.train import Outcome, keep_rows, with_data
from goodrate.cli.training_data import DataSettings, TrainingData, load_data
from goodrate.examples.prompts import JudgePrompt
from goodrate.recipes.judge_folder import JudgeFormat, open_judge
from goodrate.relevance.rulebook import load_rulebook
from goodrate.run_folder import RunFolder

Run = Callable[[Any, Path, Callable[[dict[str, Any]], None]], Outcome]


@dataclass(frozen=True)
class Stage:
    """The data, the format of the judge, and its prompts with all that is known of their answers."""

    data: TrainingData
    form: JudgeFormat
    prompts: list[JudgePrompt]


def prepared(
    judge: str,
    about: DataSettings,
    out: Path,
    data: TrainingData | None = None,
    contexts: int | None = None,
    read: Callable[..., list[JudgePrompt]] = read_prompts,
) -> Stage:
    """Prompts for a judge from the training part. data: the data of `about`, when loaded.

    contexts: texts in a prompt, None = as many as the judge reads. read: how pairs become prompts.

    Raises ValueError when judge and data have different scales or rule books, or when `out` was begun on other data.
    """
    model, form, _ = open_judge(judge)
    if form.scale != about.scale:
        raise ValueError(f"judge {judge} has scale {form.scale!r}, data.scale is {about.scale!r}; make them equal")
    count = form.contexts if contexts is None else contexts
    require_reader(about.contexts, count)
    folder = RunFolder(out / "data")
    folder.require_same(about)
    data = data or load_data(about)
    require_book(data, form, judge)
    pairs = with_contexts(data.training_pairs(about, form.item_form), data.contexts, count)
    prompts = read(model, pairs, form)
    folder.begin(about, about.split_seed)  # last: what cannot start binds no folder to its data
    return Stage(data, form, prompts)


def require_book(data: TrainingData, form: JudgeFormat, judge: str) -> None:
    """ValueError when the steps of the data cite another rule book than the judge's, or rules that it does not have."""
    if data.taught is None and data.rationale is None:
        return
    book = form.book()
    cited = data.taught.rule_book if data.taught else load_rulebook().hash
    if cited != book.hash:
        whose = "data.rationales cites" if data.taught else "the shop's reasons cite"
        raise ValueError(f"{whose} rule book {cited}, the judge {judge} {book.hash}: both have to follow one book")
    if data.taught is not None:
        data.taught.require_rules(book)


def policy_run(recipe: ModuleType) -> tuple[Any, Run]:
    """Settings and run of a recipe that trains a judge on its own rollouts: recipe.Settings and recipe.train."""

    def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
        """Train the judge of the settings; measure it beside the one it was."""
        told = recipe.Settings.model_validate(settings.model_dump(exclude={"data"}))
        stage = prepared(told.judge, settings.data, out)
        recipe.train(told, stage.prompts, out, progress)
        return outcome(stage, settings.data, out, {"before": Path(told.judge)})

    return with_data(recipe.Settings, DataSettings), run


def outcome(stage: Stage, about: DataSettings, out: Path, others: Mapping[str, Path]) -> Outcome:
    """The judge in `out`, tuned on one half of the dev queries and measured on the other, below the others."""
    folder = out / "judge"
    rows, tuned = measured(folder, stage.data, stage.form.item_form, about.split_seed, others)
    keep_rows(out, rows)
    return Outcome(folder, rows, (*stage.data.notes, tuned))
