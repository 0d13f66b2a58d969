"""Labelled pairs as a judge's training examples and prompts, cut as judging cuts them."""

from __future__ import annotations

from collections.abc import Iterable

from goodrate.cli.labelled_pair import LabelledPair
from goodrate.examples.prompts import JudgePrompt
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.relevance.prompts import Pair, fitted_prompt, judge_prompt, prompt_room
from goodrate.relevance.rationale import label_text, step_lines, write
from goodrate.relevance.rule_retrieval import RuleFinder


def read_examples(
    model: CausalLM, pairs: Iterable[LabelledPair], form: JudgeFormat, max_tokens: int | None = None
) -> tuple[list[JudgePrompt], list[str]]:
    """The examples, and what was lost: item texts that were cut as judging cuts them, pairs that cannot be judged."""
    examples, cut, refused = [], 0, 0
    finder = form.finder()
    for number, pair in enumerate(pairs):
        try:
            read, was_cut = example(model, pair, form, max_tokens, finder, number)
        except ValueError:
            refused += 1
            continue
        examples.append(read)
        cut += was_cut
    notes = {"item texts were too long and lost their end": cut, "pairs left out: no room for an item": refused}
    return examples, [f"{count:,} training {what}" for what, count in notes.items() if count]


def example(
    model: CausalLM,
    pair: LabelledPair,
    form: JudgeFormat,
    max_tokens: int | None = None,
    finder: RuleFinder | None = None,
    number: int = 0,
) -> tuple[JudgePrompt, bool]:
    """A pair as prompt and completion (the whole rationale where it is known, else the label alone); was the item cut?

    The prompt is the one that the judge will read, in at most max_tokens with its completion. Raises ValueError when
    the query leaves no room for an item.
    """
    completion = write(pair.rationale, form.order) if pair.rationale else f"{label_text(pair.label)}\n"
    left = None if max_tokens is None else max_tokens - len(model.encode(completion)) - 1
    (prefix, suffix), cut = prompt(model, pair, form, left, finder)
    return JudgePrompt(f"{number}:{pair.item_id}", prefix, suffix, pair.label, completion, pair.weight), cut


def prompt(
    model: CausalLM,
    pair: LabelledPair,
    form: JudgeFormat,
    left: int | None = None,
    finder: RuleFinder | None = None,
) -> tuple[tuple[str, str], bool]:
    """The prompt of a pair as the judge reads it, in at most `left` tokens; was the item cut? ValueError: no room."""
    rooms = [room for room in (prompt_room(model, form.max_new_tokens), left) if room is not None]
    rules = finder.line(pair.query, pair.facts) if finder else ""
    read = Pair(pair.query, pair.item_text, pair.facts, pair.context.text, rules)
    return fitted_prompt(model, read, form.template, min(rooms, default=None))


def read_prompts(model: CausalLM, pairs: Iterable[LabelledPair], form: JudgeFormat) -> list[JudgePrompt]:
    """Prompts with gold labels, and with steps and the true completion where they are known.

    Pairs that leave no room for an item are left out.
    """
    prompts = []
    finder = form.finder()
    for number, pair in enumerate(pairs):
        try:
            (prefix, suffix), _ = prompt(model, pair, form, None, finder)
        except ValueError:
            continue
        name = f"{number}:{pair.item_id}"
        steps = step_lines(pair.rationale) if pair.rationale else {}
        completion = write(pair.rationale, form.order) if pair.rationale else None
        prompts.append(JudgePrompt(name, prefix, suffix, pair.label, completion, steps=steps))
    return prompts


def read_dual(model: CausalLM, pairs: Iterable[LabelledPair], form: JudgeFormat) -> list[JudgePrompt]:
    """Prompts without and with the text of their query, which have the same item part.

    Pairs that leave no room for an item behind the text are left out.
    """
    prompts = []
    finder = form.finder()
    for number, pair in enumerate(pairs):
        try:
            (with_text, suffix), _ = prompt(model, pair, form, None, finder)
        except ValueError:
            continue
        rules = finder.line(pair.query, pair.facts) if finder else ""
        prefix, _ = judge_prompt(pair.query, "", pair.facts, None, form.template, rules)
        name = f"{number}:{pair.item_id}"
        prompt_pair = JudgePrompt(
            name, prefix, suffix, pair.label, context_prefix=with_text, context_kind=pair.context.kind
        )
        prompts.append(prompt_pair)
    return prompts
