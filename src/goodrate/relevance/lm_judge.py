"""The judge that reasons: a causal LM that writes a label and the steps behind it (TaoSR1, arXiv 2508.12365)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from goodrate.relevance.calibration import softmax
from goodrate.relevance.item_cut import cut_texts
from goodrate.relevance.judge_card import CARD_FILE, JudgeCard, require_count, write_judge_card
from goodrate.relevance.pairs import RENDERERS, Item, Pair, item_texts
from goodrate.relevance.prompts import TEMPLATES, PromptFields, PromptParts, fitted_prompt, prompt_room
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.rationale import ORDERS, Parsed, contradicts, label_text, parse
from goodrate.relevance.reason_words import reason_steps
from goodrate.relevance.rule_retrieval import RuleFinder
from goodrate.relevance.rulebook import DEFAULT_RULES, RuleBook, load_rulebook, rule_labels
from goodrate.relevance.verdicts import NO_PROBABILITIES, OK, TOO_LONG, Explanation
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from goodrate.models.language_model import LanguageModel

RULES_FILE = "rules.toml"


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """label_token_ids: one per label, worst first. order, template: how it reads and writes.

    rule_book_hash: of the book that its rationales cite ("" none). stop_token_id ends a completion of at most
    max_new_tokens. item_form: how a catalogue row becomes the text that it was trained on: "listing"
    (relevance.listing, typed fields), "text" (catalog.rendering, running text) or "short" (the same, attributes last);
    "listing_filled" and its like have what models fill in, too.
    item_tokens: most tokens of that text, 0 = as many as fit. rules: how many retrieved rules of its book stand in a
    prompt. chat_frame: the texts before and after every prompt that the model's chat template gave when it was
    trained; empty = it was trained without. start_token_ids: what stood before every prompt, such as Gemma's <bos>.
    """

    kind: ClassVar[str] = "lm"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "label_token_ids"})
    label_token_ids: tuple[int, ...]
    order: str = "label_first"
    template: str = "nano"
    rule_book_hash: str = ""
    stop_token_id: int | None = None
    max_new_tokens: int = 200
    item_form: str = "listing"
    item_tokens: int = 0
    rules: int = 0
    chat_frame: tuple[str, ...] = ()
    start_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        labels = len(self.relevance_scale)
        whole = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in self.label_token_ids)
        if not whole or len(set(self.label_token_ids)) != labels or len(self.label_token_ids) != labels:
            raise ValueError(f"label_token_ids {list(self.label_token_ids)}: expected {labels} different ids")
        choices = (("order", ORDERS), ("template", tuple(TEMPLATES)), ("item_form", tuple(RENDERERS)))
        for name, accepted in choices:
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(accepted)}")
        if self.stop_token_id is not None:
            require_count("stop_token_id", self.stop_token_id, least=0)
        require_count("max_new_tokens", self.max_new_tokens, least=1)
        require_count("item_tokens", self.item_tokens, least=0)
        require_count("rules", self.rules, least=0)
        if len(self.chat_frame) not in (0, 2) or not all(isinstance(text, str) for text in self.chat_frame):
            raise ValueError(f"chat_frame {list(self.chat_frame)}: expected none, or the texts around a prompt")
        for token in self.start_token_ids:
            require_count("start_token_ids", token, least=0)
        if self.rules and not self.rule_book_hash:
            raise ValueError(f"rules {self.rules}: expected 0, or a number of rules and the hash of their book")


def write_lm_card(folder: str | Path, card: Card, rules: str | Path | None = None) -> None:
    """Write judge.json into a model folder. rules: the rule book to keep beside it, so that reasons can be checked.

    Raises ValueError when the book's hash is not the card's.
    """
    if rules is not None:
        book = load_rulebook(Path(rules))
        if book.hash != card.rule_book_hash:
            raise ValueError(f"{rules} has hash {book.hash}, the judge was trained on {card.rule_book_hash!r}")
        shutil.copyfile(rules, Path(folder) / RULES_FILE)
    write_judge_card(folder, card)


def judge_rules(folder: str | Path, card: Card) -> RuleBook | None:
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


def open_kind(folder: Path, card: JudgeCard) -> LmJudge:
    """The judge of a folder whose card is read."""
    assert isinstance(card, Card)
    return LmJudge.load(folder, card=card)


class LmJudge:
    """A language model with a card. book: the rule book that its reasons cite, None when it is unknown.

    because: reason in words by rule id; empty without a book.
    """

    def __init__(self, model: LanguageModel, card: Card, fingerprint: str = "", book: RuleBook | None = None) -> None:
        """fingerprint: hash of the model's files."""
        self.model, self.card, self.fingerprint, self.book = model, card, fingerprint, book
        self._rule_labels = rule_labels(book)
        self.because = {rule.id: rule.because for rule in book.rules} if book else {}
        self._finder = RuleFinder(book, card.rules, TEMPLATES[card.template].rule) if book and card.rules else None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        adapter: str | Path | None = None,
        device: Any = None,
        precision: str = "auto",
        card: Card | None = None,
    ) -> LmJudge:
        """Read a judge folder, whole weights or an adapter over the base that it names. adapter: a peft folder on top.

        FileNotFoundError or ValueError name the file.
        """
        from goodrate.models.causal_lm import CausalLM, adapter_base
        from goodrate.models.pretrained import folder_hash
        from goodrate.relevance.judge_card import read_judge_card

        folder = Path(folder)
        read = card or read_judge_card(folder)
        if not isinstance(read, Card):
            raise ValueError(f"{folder} is a judge of kind {read.kind!r}, not a language model")
        model = CausalLM.load(folder, adapter=adapter, device=device, precision=precision)
        _require_vocabulary(folder, read, model.network.get_input_embeddings().num_embeddings)
        model.surround_prompts(read.chat_frame, read.start_token_ids)
        folders = [folder, adapter, adapter_base(folder)]  # a base on the hub stands by its name in the adapter's files
        hashes = [folder_hash(Path(part)) for part in folders if part is not None and Path(part).is_dir()]
        return cls(model, read, "+".join(hashes), judge_rules(folder, read))

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """Weights, arithmetic, and what is read and written."""
        card = self.card
        return {
            "model": self.fingerprint,
            "precision": self.model.precision,
            "template": card.template,
            "order": card.order,
            "rule_book": card.rule_book_hash,
            **({"rules": card.rules} if card.rules else {}),
            **({"item_tokens": card.item_tokens} if card.item_tokens else {}),
            **({"chat_frame": list(card.chat_frame)} if card.chat_frame else {}),
            **({"start": list(card.start_token_ids)} if card.start_token_ids else {}),
            "tokens": [list(card.label_token_ids), card.stop_token_id, card.max_new_tokens],
        }

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The items in the form that it was trained on."""
        return item_texts(items, self.card.item_form)

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Softmax over the label tokens where the label stands; pairs of one query share its forward pass.

        A reason-first judge writes its steps before: they come with it as explanations.
        """
        prompts, status, cut = self._prompts(pairs)
        logits = np.full((len(pairs), len(self.scale)), np.nan)
        explanations: list[Explanation | None] = [None] * len(pairs)
        usable = [row for row, prompt in enumerate(prompts) if prompt is not None]
        if self.card.order == "reason_first":
            self._write_then_label(pairs, prompts, usable, logits, status, explanations)
        elif usable:
            logits[usable] = self.model.label_logits([prompts[row] for row in usable], self.card.label_token_ids)  # type: ignore[misc]
        failed = np.isnan(logits).any(axis=1)
        named = [NO_PROBABILITIES if bad and name == OK else name for bad, name in zip(failed, status, strict=True)]
        return Assessment(softmax(logits), tuple(named), tuple(cut), tuple(explanations))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """The reason of each label, decoded behind it; a reason-first judge writes its own anew."""
        if self.card.order == "reason_first":
            return [why or Explanation("", status="not_written") for why in self.assess(pairs).explanations]
        prompts, _, _ = self._prompts(pairs)
        assert all(prompt is not None for prompt in prompts), "only what could be judged is explained"
        starts = [
            [*self.model.encode_pair(*prompt), self.card.label_token_ids[label]]  # type: ignore[misc]
            for prompt, label in zip(prompts, labels, strict=True)
        ]
        texts = [label_text(label) + done.text for label, done in zip(labels, self._generate(starts), strict=True)]
        rows = zip(texts, labels, pairs, strict=True)
        return [self._explanation(self._parse(text), text, label, pair.context) for text, label, pair in rows]

    def _parse(self, text: str) -> Parsed:
        return parse(text, self.card.order, len(self.scale))

    def _generate(self, prompts: Sequence[Any]) -> list[Any]:
        return self.model.generate(prompts, self.card.max_new_tokens, self.card.stop_token_id) if prompts else []

    def _prompts(self, pairs: Sequence[Pair]) -> tuple[list[PromptParts | None], list[str], list[bool]]:
        """Of each pair its prompt (None: it does not fit), status, and whether the item was cut.

        Room for a reason is always kept: asking for it changes nothing.
        """
        room = prompt_room(self.model, self.card.max_new_tokens)
        prompts: list[PromptParts | None] = []
        status, cut = [], []
        rendered = item_texts([pair.item for pair in pairs], self.card.item_form)
        texts = cut_texts(self.model, rendered, self.card.item_tokens)
        for pair, (text, short) in zip(pairs, texts, strict=True):
            rules = self._finder.line(pair.query, pair.facts) if self._finder else ""
            fields = PromptFields(pair.query, text, pair.facts, pair.context, rules)
            try:
                prompt, was_cut = fitted_prompt(self.model, fields, self.card.template, room)
            except ValueError:
                prompts.append(None)
                status.append(TOO_LONG)
                cut.append(False)
                continue
            prompts.append(prompt)
            status.append(OK)
            cut.append(was_cut or short)
        return prompts, status, cut

    def _write_then_label(
        self, pairs: Sequence[Pair], prompts: Sequence[PromptParts | None], usable: Sequence[int], logits: np.ndarray,
        status: list[str], explanations: list[Explanation | None],
    ) -> None:  # fmt: skip
        """Decode the steps, then read the label's logits where the label was written; fills the last three."""
        continued: list[tuple[int, list[int], Parsed, str]] = []
        for row, done in zip(usable, self._generate([prompts[row] for row in usable]), strict=True):
            parsed = self._parse(done.text)
            if parsed.label is None:
                status[row] = parsed.status
                continue
            token = self.card.label_token_ids[parsed.label]
            end = len(done.token_ids) - 1 - done.token_ids[::-1].index(token)
            ids = [*self.model.encode_pair(*prompts[row]), *done.token_ids[:end]]  # type: ignore[misc]
            continued.append((row, ids, parsed, done.text))
        read = self.model.label_logits([ids for _, ids, _, _ in continued], self.card.label_token_ids)
        for (row, _, parsed, text), z in zip(continued, read, strict=True):
            logits[row] = z  # its largest is the verdict's label, which need not be the one that was written
            explanations[row] = self._explanation(parsed, text, int(z.argmax()), pairs[row].context)

    def _explanation(self, parsed: Parsed, text: str, label: int | None, context: str | None) -> Explanation:
        """The steps of a completion. One that cannot be read is kept as written, with the name of what is wrong."""
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        body = lines[1:] if self.card.order == "label_first" else lines[:-1]
        contradiction = contradicts(replace(parsed, label=label), self._rule_labels)
        steps = reason_steps(parsed, self.because, context)
        return Explanation("\n".join(body), steps, parsed.status, contradiction)


def _require_vocabulary(folder: Path, card: Card, size: int) -> None:
    """ValueError when the card names a token that a model of `size` tokens does not have."""
    named = {
        "label_token_ids": card.label_token_ids, "stop_token_id": (card.stop_token_id or 0,),
        "start_token_ids": card.start_token_ids,
    }  # fmt: skip
    for name, ids in named.items():
        if max(ids, default=0) >= size:
            raise ValueError(f"{folder / CARD_FILE}: {name} {max(ids)}: the model has tokens 0 to {size - 1:,}")
