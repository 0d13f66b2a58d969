"""`goodrate train judge_sft`: judgements to completions, training, tuning, and the dev table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from goodrate.cli.context_input import require_reader, with_contexts
from goodrate.cli.judge_examples import read_examples
from goodrate.cli.judge_table import measured
from goodrate.cli.train import Outcome, keep_rows, with_data
from goodrate.cli.training_data import WITHOUT_CONTEXT, DataSettings, load_data
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import judge_sft
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.relevance.rulebook import load_rulebook
from goodrate.run_folder import RunFolder

Settings: Any = with_data(judge_sft.Settings, DataSettings)


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train a judge on the data's training part; tune it on one half of the dev queries, measure it on the other."""
    recipe = judge_sft.Settings.model_validate(settings.model_dump(exclude={"data"}))
    if recipe.format.scale != settings.data.scale:
        raise ValueError(
            f"format.scale is {recipe.format.scale!r} and data.scale {settings.data.scale!r}; make them equal"
        )
    require_reader(settings.data.contexts, recipe.format.contexts)
    data = load_data(settings.data)
    recipe.format.rule_book_hash = cited_book(
        recipe.format, reasons=data.rationale is not None, taught=data.taught.rule_book if data.taught else ""
    )
    model = CausalLM.load(recipe.model)  # before the folder: a run that cannot start should not bind it to its data
    if data.taught is not None:
        data.taught.require_rules(recipe.format.book())
    pairs = data.training_pairs(settings.data, recipe.format.item_form)
    given = settings.data.without_context
    share = WITHOUT_CONTEXT if given is None else given
    pairs = with_contexts(pairs, data.contexts, recipe.format.contexts, share, settings.data.split_seed)
    examples, lost = read_examples(model, pairs, recipe.format, recipe.max_tokens)
    RunFolder(out / "data").begin(settings.data, settings.data.split_seed)  # refuses to resume on other data
    folder = judge_sft.train(recipe, examples, out, progress, model)
    rows, tuned = measured(folder, data, recipe.format.item_form, settings.data.split_seed)
    keep_rows(out, rows)
    return Outcome(folder, rows, (*data.notes, *lost, tuned))


def cited_book(form: JudgeFormat, reasons: bool, taught: str = "") -> str:
    """Hash of the rule book that goes with the judge: the given one, or the package's, which a shop's reasons cite.

    taught: hash of the book that the reasons of data.rationales cite. Raises ValueError when another one is named, or
    that one by nobody: said before hours of training, not after them.
    """
    package = load_rulebook().hash if reasons or taught else ""
    cited = taught or package
    if taught not in ("", package) and form.rule_book is None:
        raise ValueError(f"data.rationales cites rule book {taught}: name its file with format.rule_book")
    given = load_rulebook(form.rule_book).hash if form.rule_book else form.rule_book_hash or cited
    source = "the book of data.rationales" if taught else "the book of the shop's reasons"
    for what, expected in (("format.rule_book_hash", form.rule_book_hash), (source, cited)):
        if expected and given != expected:
            raise ValueError(f"format.rule_book {form.rule_book or 'hash'} is {given}, {what} {expected}")
    return given
