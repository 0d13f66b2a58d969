"""What an LM judge is trained to read and write: the settings that become its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from goodrate.relevance.prompts import TEMPLATES
from goodrate.relevance.rule_retrieval import RuleFinder
from goodrate.relevance.rulebook import BOOKS, DEFAULT_RULES, RuleBook, load_rulebook
from goodrate.scale import RelevanceScale, get_scale, scale_entry


class JudgeFormat(BaseModel):
    """What a judge is trained to read and write; it becomes its judge card."""

    model_config = ConfigDict(extra="forbid")
    scale: str | dict[str, Any] = Field(
        default="four_level", description="name of the relevance scale, or a TOML file of your own, kept with the judge"
    )
    order: Literal["label_first", "reason_first"] = Field(default="label_first", description="where the label stands")
    template: str = Field(default="checklist", description="id of the prompt template: checklist, facts, nano or v1")
    item_form: Literal["listing", "text", "short", "listing_filled", "text_filled", "short_filled"] = Field(
        default="listing",
        description="how a row becomes the item's text; short has the description before attributes; with _filled the "
        "attributes that models fill in are read, too",
    )
    item_tokens: int = Field(default=0, ge=0, description="most tokens of an item's text; 0 = as many as fit")
    chat: bool | None = Field(
        default=None, description="prompts stand in the model's chat template; null = where the model has one"
    )
    rule_book: Path | None = Field(
        default=None, description="rule book to keep with the judge, a file or a name that ships; none = the package's"
    )
    rule_book_hash: str = Field(default="", description="hash of the rule book that the rationales cite; empty = none")
    rules: int = Field(default=0, ge=0, description="retrieved rules of the book in every prompt")
    contexts: int | None = Field(
        default=None, ge=0, description="retrieved texts in every prompt, DyKnow-RAG has one; null = none"
    )
    max_new_tokens: int = Field(default=200, gt=0, description="longest completion")

    @field_validator("scale")
    @classmethod
    def _whole_scale(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        """The content of a scale's file in place of its name: files move, judges stay."""
        return scale_entry(get_scale(value))

    @field_validator("rule_book")
    @classmethod
    def _file_of_book(cls, value: Path | None) -> Path | None:
        """The file of a book that ships, where its name is given."""
        return value if value is None else BOOKS.get(str(value), value)

    @property
    def relevance_scale(self) -> RelevanceScale:
        """The scale itself."""
        return get_scale(self.scale)

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
