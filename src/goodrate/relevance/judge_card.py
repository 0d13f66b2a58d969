"""judge.json: what makes a model folder a judge. One function writes it, one reads it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from goodrate.relevance.prompts import TEMPLATES
from goodrate.relevance.rationale import ORDERS
from goodrate.relevance.rulebook import DEFAULT_RULES, RuleBook, load_rulebook
from goodrate.run_folder import write_atomic
from goodrate.scale import get_scale

CARD_FILE, RULES_FILE = "judge.json", "rules.toml"
ITEM_FORMS = ("listing", "text")


@dataclass(frozen=True)
class JudgeCard:
    """scale: name. label_token_ids: one per label, worst first. order, template: how it reads and writes.

    rule_book_hash: of the book that its rationales cite ("" none). temperature, beta_cum: set on dev data.
    stop_token_id ends a completion of at most max_new_tokens. item_form: how a catalogue row becomes the item text that
    it was trained on: "listing" (relevance.listing, typed fields) or "text" (catalog.rendering, running text).
    rules: how many retrieved rules of its book stand in a prompt. contexts: how many retrieved texts it was trained to
    read there; 0 = it knows no such texts.
    """

    scale: str
    label_token_ids: tuple[int, ...]
    order: str = "label_first"
    template: str = "nano"
    rule_book_hash: str = ""
    temperature: float = 1.0
    beta_cum: float = 0.5
    stop_token_id: int | None = None
    max_new_tokens: int = 200
    item_form: str = "listing"
    rules: int = 0
    contexts: int = 0

    def __post_init__(self) -> None:
        labels = len(get_scale(self.scale))
        if len(set(self.label_token_ids)) != labels or len(self.label_token_ids) != labels:
            raise ValueError(f"label_token_ids {list(self.label_token_ids)}: expected {labels} different ids")
        choices = (("order", ORDERS), ("template", tuple(TEMPLATES)), ("item_form", ITEM_FORMS))
        for name, accepted in choices:
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(accepted)}")
        if self.rules < 0 or (self.rules and not self.rule_book_hash):
            raise ValueError(f"rules {self.rules}: expected 0, or a number of rules and the hash of their book")
        if self.contexts < 0:
            raise ValueError(f"contexts {self.contexts}: expected 0 or a number of retrieved texts")
        if not (self.temperature > 0 and 0 < self.beta_cum < 1 and self.max_new_tokens > 0):
            raise ValueError(
                f"temperature {self.temperature} and max_new_tokens {self.max_new_tokens} must be positive, "
                f"beta_cum {self.beta_cum} between 0 and 1"
            )


def write_judge_card(folder: str | Path, card: JudgeCard, rules: str | Path | None = None) -> None:
    """Write judge.json into a model folder. rules: the rule book to keep beside it, so that reasons can be checked.

    Raises ValueError when the book's hash is not the card's.
    """
    folder = Path(folder)
    if rules is not None:
        book = load_rulebook(Path(rules))
        if book.hash != card.rule_book_hash:
            raise ValueError(f"{rules} has hash {book.hash}, the judge was trained on {card.rule_book_hash!r}")
        shutil.copyfile(rules, folder / RULES_FILE)
    write_atomic(folder / CARD_FILE, json.dumps(asdict(card), indent=2) + "\n")


def read_judge_card(folder: str | Path) -> JudgeCard:
    """The card of a judge folder. Raises FileNotFoundError, or ValueError naming the file and what is wrong in it."""
    path = Path(folder) / CARD_FILE
    if not path.is_file():
        inner = path.parent / "judge"
        where = f"; that of this run is {inner}" if (inner / CARD_FILE).is_file() else ""
        raise FileNotFoundError(f"{path}: no such file; a judge is a model folder with a judge.json{where}")
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    known = [field.name for field in fields(JudgeCard)]
    for name in ("scale", "label_token_ids"):
        if name not in raw:
            raise ValueError(f"{path}: missing {name!r}")
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ValueError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(known)}")
    try:
        return JudgeCard(**{**raw, "label_token_ids": tuple(raw["label_token_ids"])})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def judge_rules(folder: str | Path, card: JudgeCard) -> RuleBook | None:
    """The rule book of a judge: the folder's own or the package's; None when neither is the card's.

    Without it a reason cannot be checked for contradiction. ValueError when the judge's prompts need its rules.
    """
    for path in (Path(folder) / RULES_FILE, DEFAULT_RULES):
        if path.is_file():
            book = load_rulebook(path)
            if book.hash == card.rule_book_hash:
                return book
    if card.rules:
        raise ValueError(f"{folder}: no {RULES_FILE} with hash {card.rule_book_hash}, whose rules stand in its prompts")
    return None


def rule_labels(book: RuleBook | None) -> dict[str, int]:
    """Label position by rule id; empty without a book: contradictions cannot be told then."""
    return {rule.id: book.scale.index(rule.label) for rule in book.rules} if book else {}
