"""The one record of a judge's prompt."""

from __future__ import annotations

from goodrate.examples.prompts import JudgePrompt


def test_a_judge_is_served_the_text_where_there_is_one() -> None:
    bare = JudgePrompt("a", "query: lamp\n", "item: red lamp\n", 3)
    assert bare.served == ("query: lamp\n", "item: red lamp\n")
    assert (bare.completion, bare.weight, dict(bare.steps), bare.context_kind) == (None, 1.0, {}, "")
    read = JudgePrompt("a", "query: lamp\n", "item: red lamp\n", 3, context_prefix="query: lamp\ncontext: lit\n")
    assert read.served == ("query: lamp\ncontext: lit\n", "item: red lamp\n")
