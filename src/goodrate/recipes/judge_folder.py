"""What a judge is trained to read and write, what its folder says of it (judge.json), and writing that folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from goodrate.models.adapter import Adapter
from goodrate.models.causal_lm import CausalLM
from goodrate.relevance.judge_card import (
    RULES_FILE,
    JudgeCard,
    judge_rules,
    read_judge_card,
    rule_labels,
    write_judge_card,
)
from goodrate.relevance.prompts import TEMPLATES
from goodrate.relevance.rule_retrieval import RuleFinder
from goodrate.relevance.rulebook import DEFAULT_RULES, RuleBook, load_rulebook
from goodrate.run_folder import new_folder
from goodrate.scale import get_scale


class JudgeFormat(BaseModel):
    """What a judge is trained to read and write; it becomes its judge card."""

    model_config = ConfigDict(extra="forbid")
    scale: str = Field(default="four_level", description="name of the relevance scale")
    order: Literal["label_first", "reason_first"] = Field(default="label_first", description="where the label stands")
    template: str = Field(default="checklist", description="id of the prompt template: checklist, nano or v1")
    item_form: Literal["listing", "text"] = Field(default="listing", description="how a row becomes the item's text")
    rule_book: Path | None = Field(default=None, description="rule book to keep with the judge; none = the package's")
    rule_book_hash: str = Field(default="", description="hash of the rule book that the rationales cite; empty = none")
    rules: int = Field(default=0, ge=0, description="retrieved rules of the book in every prompt")
    contexts: int | None = Field(
        default=None, ge=0, description="retrieved texts in every prompt, DyKnow-RAG has one; null = none"
    )
    max_new_tokens: int = Field(default=200, gt=0, description="longest completion")

    def book(self) -> RuleBook:
        """The judge's rule book, the package's where it has none of its own."""
        return load_rulebook(self.rule_book or DEFAULT_RULES)

    def finder(self) -> RuleFinder | None:
        """What finds the rules for prompts; None when they hold none. ValueError when the book is another one."""
        if not self.rules:
            return None
        book = self.book()
        if self.rule_book_hash not in ("", book.hash):
            raise ValueError(f"format.rules: the rule book has hash {book.hash}, expected {self.rule_book_hash}")
        return RuleFinder(book, self.rules, TEMPLATES[self.template].rule)


def label_token_ids(model: CausalLM, scale: str) -> list[int]:
    """The token of each label position, worst first: the digits from "1". ValueError when one is not a single token."""
    digits = [str(position + 1) for position in range(len(get_scale(scale)))]
    ids = [model.encode(digit) for digit in digits]
    split = [digit for digit, tokens in zip(digits, ids, strict=True) if len(tokens) != 1]
    if split:
        raise ValueError(f"label {split[0]!r} is {len(model.encode(split[0]))} tokens in this tokenizer; must be 1")
    label_tokens = [tokens[0] for tokens in ids]
    if len(set(label_tokens)) < len(label_tokens):
        raise ValueError(f"labels {digits} share a token in this tokenizer: {label_tokens}")
    return label_tokens


def stop_token_id(model: CausalLM) -> int:
    """The token that ends a completion: the tokenizer's end token. ValueError when it has none (BERT: its [SEP])."""
    for token in (model.tokenizer.eos_token_id, model.tokenizer.sep_token_id):
        if token is not None:
            return int(token)
    raise ValueError("the tokenizer has neither an end token nor a separator to stop a completion with")


def open_judge(folder: str | Path) -> tuple[CausalLM, JudgeFormat, dict[str, int]]:
    """A judge to train further: its model, its format, and label position by rule id (empty: its book is unknown)."""
    card = read_judge_card(folder)
    fields = {name: getattr(card, name) for name in JudgeFormat.model_fields if name != "rule_book"}
    book = Path(folder) / RULES_FILE
    judge_format = JudgeFormat(**fields, rule_book=book if book.is_file() else None)
    return CausalLM.load(folder), judge_format, rule_labels(judge_rules(folder, card))


def judge_card(model: CausalLM, judge_format: JudgeFormat) -> JudgeCard:
    """The card of a freshly trained judge: not calibrated, tiers at the median."""
    facts = {**judge_format.model_dump(exclude={"rule_book"}), "contexts": judge_format.contexts or 0}
    return JudgeCard(
        label_token_ids=tuple(label_token_ids(model, judge_format.scale)), stop_token_id=stop_token_id(model), **facts
    )


def write_judge(model: CausalLM, judge_format: JudgeFormat, folder: Path, adapter: Adapter | None = None) -> Path:
    """Save the model with its judge.json; the folder appears complete or not at all.

    adapter: merged into the model, so that the next stage starts from plain weights; saved apart too, in `adapter/`.
    """
    with new_folder(folder) as beside:
        if adapter:
            adapter.save(beside / "adapter")
            adapter.merge()
        model.save(beside)
        write_judge_card(beside, judge_card(model, judge_format), judge_format.rule_book)
    return folder
