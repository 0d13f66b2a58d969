"""Judged pairs as an LM judge's prompts and completions, cut as judging cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from goodrate.examples.prompts import JudgePrompt
from goodrate.models.causal_lm import CausalLM
from goodrate.relevance.item_cut import cut_texts
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import JudgedPair, item_texts
from goodrate.relevance.prompts import PromptFields, fitted_prompt, judge_prompt, prompt_room
from goodrate.relevance.rationale import label_text, step_lines, write


def judge_prompts(
    model: CausalLM,
    pairs: Sequence[JudgedPair],
    form: JudgeFormat,
    max_tokens: int | None = None,
    label_completions: bool = False,
    both_views: bool = False,
) -> tuple[list[JudgePrompt], list[str]]:
    """The prompts that the judge will be served with, and notes on what was lost.

    max_tokens: prompt, completion and stop token together take at most so many. label_completions: pairs without known
    steps get their label alone as completion, else none. both_views: `prefix` shows no retrieved text and
    `context_prefix` does; else `prefix` is as served. A pair that leaves no room for an item is left out and counted.
    """
    prompts, cut, refused = [], 0, 0
    finder = form.finder()
    texts = cut_texts(model, item_texts([pair.item for pair in pairs], form.item_form), form.item_tokens)
    for number, (pair, (text, short)) in enumerate(zip(pairs, texts, strict=True)):
        completion = _completion(pair, form, label_completions)
        rules = finder.line(pair.query, pair.facts) if finder else ""
        fields = PromptFields(pair.query, text, pair.facts, pair.context, rules)
        try:
            (prefix, suffix), was_cut = fitted_prompt(
                model, fields, form.template, _room(model, form, completion, max_tokens)
            )
        except ValueError:
            refused += 1
            continue
        cut += was_cut or short
        steps = step_lines(pair.reason) if pair.reason else {}
        prompt = JudgePrompt(f"{number}:{pair.item_id}", prefix, suffix, pair.label, completion, pair.weight, steps)
        prompts.append(_with_plain_view(prompt, pair, form, rules) if both_views else prompt)
    notes = {"item texts were too long and lost their end": cut, "pairs left out: no room for an item": refused}
    return prompts, [f"{count:,} training {what}" for what, count in notes.items() if count]


def _completion(pair: JudgedPair, form: JudgeFormat, label_alone: bool) -> str | None:
    """The whole reason where it is known, else the label alone or nothing."""
    if pair.reason:
        return write(pair.reason, form.order)
    return f"{label_text(pair.label)}\n" if label_alone else None


def _room(model: CausalLM, form: JudgeFormat, completion: str | None, max_tokens: int | None) -> int | None:
    """Tokens that the prompt may have: what judging leaves, and what training leaves beside the completion."""
    rooms = [prompt_room(model, form.max_new_tokens)]
    if max_tokens is not None:
        rooms.append(max_tokens - len(model.encode(completion or "")) - 1)
    return min((room for room in rooms if room is not None), default=None)


def _with_plain_view(prompt: JudgePrompt, pair: JudgedPair, form: JudgeFormat, rules: str) -> JudgePrompt:
    """The prompt with both views; they have the same item part."""
    plain, _ = judge_prompt(pair.query, "", pair.facts, None, form.template, rules)
    return replace(prompt, prefix=plain, context_prefix=prompt.prefix, context_kind=pair.context_kind)
