"""The judge's prompt: what all items of a query share (the prefix), and the item's own part (the suffix).

Both parts are tokenised apart (LanguageModel.encode_pair): so the prefix's forward pass serves every item of a query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.models.language_model import LanguageModel


PromptParts = tuple[str, str]  # what all items of a query share, and the item's own part


@dataclass(frozen=True)
class Template:
    """instruction: what stands before the query. answer: the line that asks for the label.

    rule: how a retrieved rule is written; id, because, label and digit may stand in braces.
    """

    instruction: str
    answer: str
    rule: str = "{id}"


V1_INSTRUCTION = (
    "Say how well the item answers the shopper's query.\n"
    "4: all that was asked for. 3: the right kind of product, not all of it certain. "
    "2: the right kind, but a requirement fails. 1: another kind of product.\n"
)
# A template id is part of a judge: its text is never changed, a new text gets a new id.
TEMPLATES = {
    "nano": Template("", "answer:\n"),
    # Names every column of the rule book before the label is asked for: a small model works out each verdict at its
    # name, as the base was taught to, and the label reads them there (docs/judge.md has what that is worth).
    "checklist": Template("", "answer:\nstatus category ; must ; may ; not ; alternative\n"),
    # Names the lines of a reason of facts alone (relevance.rationale) before the label, for the same end.
    "facts": Template("", "answer:\nstatus has ; lacks ; against\n"),
    "v1": Template(V1_INSTRUCTION, "answer: ", "if {because}: {digit}"),
}


@dataclass(frozen=True)
class PromptFields:
    """The texts of one prompt. facts: what is known of the query. context: a retrieved text, None without one.

    rules: the retrieved rules in one line (relevance.rule_retrieval), as the judge was trained to read them.
    """

    query: str
    item_text: str
    facts: str = ""
    context: str | None = None
    rules: str = ""


def judge_prompt(
    query: str, item_text: str, facts: str = "", context: str | None = None, template: str = "v1", rules: str = ""
) -> PromptParts:
    """Prefix and suffix of a pair's prompt. Line breaks inside the parts become spaces: each part is one line.

    Raises ValueError naming the known templates.
    >>> judge_prompt("red lamp", "lamp ; color red", facts="price below 40", template="nano")
    ('query: red lamp\\nfacts: price below 40\\n', 'item: lamp ; color red\\nanswer:\\n')
    """
    if template not in TEMPLATES:
        raise ValueError(f"unknown prompt template {template!r}; known: {', '.join(TEMPLATES)}")
    form = TEMPLATES[template]
    texts = {"query": query, "facts": facts, "rules": rules, "context": context or ""}
    lines = [f"{name}: {_one_line(text)}\n" for name, text in texts.items() if name == "query" or _one_line(text)]
    return form.instruction + "".join(lines), f"item: {_one_line(item_text)}\n{form.answer}"


def with_hint(suffix: str, hint: str, template: str) -> str:
    """The suffix of a prompt with a line of guidance before its answer line, as guided replay shows it.

    >>> with_hint("item: lamp\\nanswer:\\n", "category lamp : lamp same", "nano")
    'item: lamp\\nhint: category lamp : lamp same\\nanswer:\\n'
    """
    answer = TEMPLATES[template].answer
    if not suffix.endswith(answer):
        raise ValueError(f"the prompt does not end with the answer line of template {template!r}: {suffix[-60:]!r}")
    return f"{suffix.removesuffix(answer)}hint: {_one_line(hint)}\n{answer}"


CONTEXT_SHARE = 0.5  # of the room for a prompt: at most that much goes to a retrieved text


def _one_line(text: str) -> str:
    """The text without line breaks: an item cannot write an answer line of its own."""
    return " ".join(text.split())


def prompt_room(model: LanguageModel, max_new_tokens: int) -> int | None:
    """Tokens that a prompt may have, in training and in judging, so that a whole reason always fits behind it.

    None where the model does not say how many tokens it takes.
    """
    return None if model.max_length is None else model.max_length - max_new_tokens - 1


def fitted_prompt(
    model: LanguageModel, fields: PromptFields, template: str, room: int | None
) -> tuple[PromptParts, bool]:
    """The prompt of a pair in at most `room` tokens (None: no limit), its item text cut at the end where it must be.

    A context longer than half of the room loses its end, whatever the item, so that all items of a query share it.
    Returns the prompt and whether the item was cut. Raises ValueError when query, facts and
    context alone leave no room for an item.
    """
    fields = replace(fields, context=_fitted_context(model, fields.context, room))
    prompt = _prompt(fields, fields.item_text, template)
    if room is None or _surely_fits(model, prompt, room) or len(model.encode_pair(*prompt)) <= room:
        return prompt, False

    def length(characters: int) -> int:
        item = _one_line(fields.item_text)[:characters]
        return len(model.encode_pair(*_prompt(fields, item, template)))

    characters = _largest(length, len(fields.item_text), room)
    if characters == 0:
        raise ValueError(f"query, facts and context leave no room for an item in {room} tokens: {fields.query[:60]!r}")
    item = _one_line(fields.item_text)[:characters]
    return _prompt(fields, item, template), True


def _prompt(fields: PromptFields, item_text: str, template: str) -> PromptParts:
    """The prompt of a pair with another item text."""
    return judge_prompt(fields.query, item_text, fields.facts, fields.context, template, fields.rules)


def _fitted_context(model: LanguageModel, context: str | None, room: int | None) -> str | None:
    """The context's beginning that takes at most its share of the room; None and "" stay without one."""
    if not context or room is None or len(context.encode()) + 2 <= room * CONTEXT_SHARE:
        return context
    text = _one_line(context)
    characters = _largest(lambda characters: len(model.encode(text[:characters])), len(text), int(room * CONTEXT_SHARE))
    return text[:characters]


def _surely_fits(model: LanguageModel, prompt: PromptParts, room: int) -> bool:
    """Whether counting bytes is enough: tokens are at least a byte long, but for a mark that some put in front.

    What the model puts around every prompt counts as it is.
    """
    return len("".join(prompt).encode()) + 2 + len(model.encode_pair("", "")) <= room


def _largest(length: Callable[[int], int], most: int, room: int) -> int:
    """The most characters whose prompt fits, by bisection; 0 when none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if length(middle) <= room:
            low = middle
        else:
            high = middle - 1
    return low
