"""A causal language model that was trained on no label, as a judge: how likely it finds a label's word, or "yes".

The answer's words are compared after one question about query and item, and what the model finds likely for no content
at all is taken off (Zhao et al., arXiv 2102.09690, section 4). Ours: the question, and proportional odds from yes
against no to labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from goodrate.relevance.calibration import softmax
from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.judge_card import JudgeCard, require_count, write_judge_card
from goodrate.relevance.odds import check_odds, label_probabilities
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.probe_judge import model_fingerprint, open_model
from goodrate.relevance.prompts import PromptParts
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import explained
from goodrate.relevance.verdicts import OK, TOO_LONG, Explanation, ReasonStep
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from goodrate.models.causal_lm import CausalLM

YES_NO, WORDS = "yes_no", "words"
FORMS = (YES_NO, WORDS)
NO_AND_YES = ("no", "yes")
NO_CONTENT = ("N/A", "", "[MASK]")  # those of the paper
# Labels that are digits say nothing to a model that has not learnt them: words for as many labels, worst first.
WORDS_FOR_DIGITS = {
    2: ("bad", "good"), 3: ("bad", "fair", "good"), 4: ("bad", "poor", "fair", "perfect"),
    5: ("bad", "poor", "fair", "good", "perfect"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """language_model: folder or hub id, and its fingerprint. form: yes_no or words.

    words: the answers that are compared, no and yes, or one a label, worst first. fields: what it reads of an item, cut
    to so many characters. slope, cuts (L - 1): from yes against no to labels; no cuts for words. chat_frame: the texts
    around every prompt; empty = none. labelled_pairs: how many labels set slope and cuts; 0 = none.
    """

    kind: ClassVar[str] = "zero_shot"
    required: ClassVar[frozenset[str]] = frozenset({"scale", "language_model", "fingerprint", "form", "words"})
    language_model: str
    fingerprint: str
    form: str
    words: tuple[str, ...]
    slope: float = 1.0
    cuts: tuple[float, ...] = ()
    fields: tuple[str, ...] = ("title", "description")
    characters: int = 300
    chat_frame: tuple[str, ...] = ()
    labelled_pairs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from goodrate.catalog.rendering import JUDGE_FIELDS, check_fields

        check_fields(self.fields, JUDGE_FIELDS)
        require_count("characters", self.characters, least=1)
        if self.form not in FORMS:
            raise ValueError(f"form {self.form!r} is not one of {', '.join(FORMS)}")
        labels = len(self.relevance_scale)
        answers = labels if self.form == WORDS else len(NO_AND_YES)
        if len(self.words) != answers or len(set(self.words)) < answers or not all(word.strip() for word in self.words):
            raise ValueError(f"words {list(self.words)}: expected {answers} different ones, worst first")
        if self.form == YES_NO:
            check_odds(self.slope, self.cuts, labels)
        if len(self.chat_frame) not in (0, 2):
            raise ValueError(f"chat_frame {list(self.chat_frame)}: expected none, or the texts around a prompt")


def label_words(scale: RelevanceScale) -> tuple[str, ...]:
    """A word for each label, worst first: its name, or one of WORDS_FOR_DIGITS. ValueError where there is none."""
    if not any(label[:1].isdigit() for label in scale.labels):
        return scale.labels
    if len(scale) not in WORDS_FOR_DIGITS:
        raise ValueError(f"scale {scale.name} has {len(scale)} labels that are numbers: name a word for each (words)")
    return WORDS_FOR_DIGITS[len(scale)]


def answer_tokens(model: CausalLM, words: Sequence[str], in_chat: bool) -> tuple[str, list[int]]:
    """What ends a prompt, "" or a blank, and the token that each answer begins with after it.

    in_chat: a chat template ends the line before an answer. Raises ValueError where two words begin with one token.
    """
    for ending, blank in (("", ""),) if in_chat else (("", " "), (" ", "")):
        tokens = [model.encode(blank + word)[0] for word in words]
        if len(set(tokens)) == len(tokens):
            return ending, tokens
    raise ValueError(f"words {', '.join(words)}: two of them begin with the same token of this model; name others")


def open_kind(folder: Path, card: JudgeCard) -> ZeroShotJudge:
    """The judge of a folder.

    Raises FileNotFoundError when its model is missing, ValueError when it is another one than the card was made with.
    """
    assert isinstance(card, Card)
    model = open_model(card.language_model, folder)
    if model_fingerprint(model) != card.fingerprint:
        name = card.language_model
        raise ValueError(f"{folder}: {name} is another model than this judge was made with; make it anew")
    return ZeroShotJudge(model, card)


def write_zero_shot_judge(folder: Path, card: Card) -> None:
    """Make a judge folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_judge_card(folder, card)


class ZeroShotJudge:
    """A language model with a card. Raises ValueError where two answers begin with the same token."""

    def __init__(self, model: CausalLM, card: Card) -> None:
        from goodrate.models.chat_frame import ChatFrame

        self.model, self.card = model, card
        model.frame = ChatFrame(*card.chat_frame)
        self._ending, self._tokens = answer_tokens(model, card.words, bool(model.frame.closing))

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, what it is asked, and how its answer becomes labels."""
        card = self.card
        asked = [self._question, list(card.words), list(card.chat_frame)]
        odds = [card.slope, list(card.cuts)]
        return {"model": card.fingerprint, "precision": self.model.precision, "asked": asked, "odds": odds}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The card's fields of each item, cut."""
        return [text[: self.card.characters] for text in field_texts(items, self.card.fields)]

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the answers' likelihoods; prompt_too_long for a pair that the model cannot take."""
        if self.card.form == YES_NO:
            rows = label_probabilities(self.scores(pairs), self.card.slope, self.card.cuts)
        else:
            rows = softmax(self.evidence(pairs)) if pairs else np.zeros((0, len(self.scale)))
        return Assessment.of(rows, [TOO_LONG if bad else OK for bad in np.isnan(rows).any(axis=1)])

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """What orders, (N,): log odds of yes, or the expected gain of the label words; NaN where it is too long."""
        found = self.evidence(pairs)
        return found[:, 1] - found[:, 0] if self.card.form == YES_NO else self.scale.expected_gain(softmax(found))

    def evidence(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Log-likelihood of each answer less that without content, (N, W); NaN where a pair is too long."""
        prompts = self._prompts([pair.query for pair in pairs], self.reads([pair.item for pair in pairs]))
        limit = self.model.max_length
        usable = [row for row, one in enumerate(prompts) if limit is None or len(self.model.encode_pair(*one)) <= limit]
        found = np.full((len(pairs), len(self.card.words)), np.nan)
        if usable:
            found[usable] = self._logs([prompts[row] for row in usable]) - self._without_content
        return found

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """How likely each answer is, and the query's words that the item has and lacks."""
        texts = self.reads([pair.item for pair in pairs])
        if not pairs:
            return []
        shares = softmax(self.evidence(pairs))
        return [self._explanation(pair.query, text, row) for pair, text, row in zip(pairs, texts, shares, strict=True)]

    def _explanation(self, query: str, item_text: str, shares: np.ndarray) -> Explanation:
        line = " ; ".join(f"{word} {share:.3f}" for word, share in zip(self.card.words, shares, strict=True))
        told = ", ".join(f"{word} {share:.0%}" for word, share in zip(self.card.words, shares, strict=True))
        return explained([ReasonStep("answer", "What the language model answers", line, told)], query, item_text)

    @property
    def _question(self) -> str:
        """The line behind the item."""
        if self.card.form == YES_NO:
            return "Is this item what the shopper is looking for, yes or no?\nAnswer:"
        return f"How good is this item for the shopper: {', '.join(self.card.words)}?\nAnswer:"

    def _prompts(self, queries: Sequence[str], texts: Sequence[str]) -> list[PromptParts]:
        """The query first, so that all items of a query share its part."""
        lines = [(" ".join(query.split()), " ".join(text.split())) for query, text in zip(queries, texts, strict=True)]
        asked = self._question + self._ending
        return [(f"A shopper searches a shop for: {query}\n", f"Item: {text}\n{asked}") for query, text in lines]

    def _logs(self, prompts: Sequence[PromptParts]) -> np.ndarray:
        """log of each answer's share among the answers, (N, W) float64."""
        logits = self.model.label_logits(prompts, self._tokens).astype(np.float64)
        return np.log(softmax(logits))

    @cached_property
    def _without_content(self) -> np.ndarray:
        """log of the mean share of each answer where query and item hold nothing, (W,)."""
        shares = np.exp(self._logs(self._prompts(NO_CONTENT, NO_CONTENT)))
        return np.log(shares.mean(axis=0))
