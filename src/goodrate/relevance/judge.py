"""The judge: how relevant is each item to its query, with what probability, in which tier, and why."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from goodrate.relevance.calibration import softmax
from goodrate.relevance.judge_card import (
    CARD_FILE,
    JudgeCard,
    judge_rules,
    read_judge_card,
    rule_labels,
    write_judge_card,
)
from goodrate.relevance.prompts import TEMPLATES, Pair, fitted_prompt, prompt_room
from goodrate.relevance.rationale import contradicts, label_text, parse
from goodrate.relevance.rule_retrieval import RuleFinder
from goodrate.relevance.tiers import TIERS, cumpt
from goodrate.scale import RelevanceScale, get_scale

if TYPE_CHECKING:
    from goodrate.models.causal_lm import CausalLM

__all__ = ["Judge", "JudgeCard", "Pair", "Verdict", "read_judge_card", "write_judge_card"]

OK, TOO_LONG = "ok", "prompt_too_long"


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a pair. status other than "ok" is a failure: then label, probabilities and tier are None.

    label: position on the scale, 0 = worst, the most probable one. probabilities: one per label, worst first.
    tier: Good, Mid or Bad by cumulative mass, so it can differ from the label's own. reason: the reasoning steps, one
    line each, None until asked for; reason_status: "ok" or what makes it unreadable; inconsistent: whether the steps
    name a rule that gives another label (None: cannot be told). item_cut: the item text was too long and lost its end.
    """

    label: int | None
    probabilities: tuple[float, ...] | None
    tier: str | None
    status: str = OK
    reason: str | None = None
    inconsistent: bool | None = None
    reason_status: str | None = None
    item_cut: bool = False


class Judge:
    """A causal LM with a judge card.

    rules: label position by rule id, for checking reasons; empty = unchecked. fingerprint: hash of the model's files.
    finder: what finds the rules for a prompt, where the card wants some.
    """

    def __init__(
        self,
        model: CausalLM,
        card: JudgeCard,
        fingerprint: str = "",
        rules: dict[str, int] | None = None,
        finder: RuleFinder | None = None,
    ) -> None:
        self.model = model
        self.card = card
        self.fingerprint = fingerprint
        self.rules = rules or {}
        self._finder = finder

    @classmethod
    def load(
        cls, folder: str | Path, adapter: str | Path | None = None, device: Any = None, precision: str = "auto"
    ) -> Judge:
        """Read a judge folder. adapter: a peft folder on top. FileNotFoundError or ValueError name the file."""
        card = read_judge_card(folder)
        from goodrate.models.causal_lm import CausalLM

        model = CausalLM.load(Path(folder), adapter=adapter, device=device, precision=precision)
        prints = [_folder_hash(Path(f)) for f in (folder, adapter) if f is not None]
        book = judge_rules(folder, card)
        finder = RuleFinder(book, card.rules, TEMPLATES[card.template].rule) if book and card.rules else None
        return cls(model, card, "+".join(prints), rule_labels(book), finder)

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return get_scale(self.card.scale)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides a verdict besides the pair. Not beta_cum: tiers are drawn anew from kept probabilities."""
        card = self.card
        return {
            "model": self.fingerprint,
            "precision": self.model.precision,
            "template": card.template,
            "order": card.order,
            "rule_book": card.rule_book_hash,
            "temperature": card.temperature,
            **({"rules": card.rules} if card.rules else {}),
            "tokens": [list(card.label_token_ids), card.stop_token_id, card.max_new_tokens],
        }

    def logits(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Label logits (N, L) before the temperature, for calibration; NaN where the judge failed."""
        return self._read(pairs)[0]

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Calibrated probabilities (N, L) float64, worst label first; NaN where the judge failed.

        Pairs of one query are grouped and share its forward pass, whatever their order.
        """
        return softmax(self.logits(pairs), self.card.temperature)

    def judge(self, pairs: Sequence[Pair], reasons: bool = False) -> list[Verdict]:
        """One verdict per pair, in order. reasons: decode the rationale too (slow: a hundred tokens a pair)."""
        logits, notes, written = self._read(pairs)
        probabilities = softmax(logits, self.card.temperature)
        verdicts = [self._verdict(p, status, cut) for p, (status, cut) in zip(probabilities, notes, strict=True)]
        if not reasons:
            return verdicts
        if self.card.order == "reason_first":
            return [self._with_reason(v, text) for v, text in zip(verdicts, written, strict=True)]
        return self.explain(pairs, verdicts)

    def explain(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts with their reasons, decoded behind the label that was given. Failed ones stay as they are."""
        if self.card.order == "reason_first":
            written = self._read(pairs)[2]
            return [self._with_reason(v, text) for v, text in zip(verdicts, written, strict=True)]
        prompts, places = [], []
        for place, (pair, verdict) in enumerate(zip(pairs, verdicts, strict=True)):
            if verdict.label is not None:
                prompt, _ = self._prompt(pair)
                prompts.append([*self.model.encode_pair(*prompt), self.card.label_token_ids[verdict.label]])
                places.append(place)
        explained = list(verdicts)
        for place, done in zip(places, self._generate(prompts), strict=True):
            label = verdicts[place].label
            assert label is not None
            explained[place] = self._with_reason(verdicts[place], label_text(label) + done.text)
        return explained

    def tiered(self, verdict: Verdict) -> Verdict:
        """The verdict with the tier of this judge's beta_cum; a failed one has none."""
        if verdict.probabilities is None:
            return replace(verdict, tier=None)
        tier = int(cumpt([verdict.probabilities], self.scale, self.card.beta_cum)[0])
        return replace(verdict, tier=TIERS[tier])

    def _generate(self, prompts: list[Any]) -> list[Any]:
        return self.model.generate(prompts, self.card.max_new_tokens, self.card.stop_token_id) if prompts else []

    def _prompt(self, pair: Pair) -> tuple[tuple[str, str], bool]:
        """The prompt and whether the item was cut. Room for a reason is always kept: asking for it changes nothing."""
        room = prompt_room(self.model, self.card.max_new_tokens)
        if self._finder:
            pair = replace(pair, rules=self._finder.line(pair.query, pair.facts))
        return fitted_prompt(self.model, pair, self.card.template, room)

    def _prompts(self, pairs: Sequence[Pair]) -> tuple[list[tuple[str, str] | None], list[tuple[str, bool]]]:
        """The prompt of each pair (None: it does not fit) and (status, item cut)."""
        prompts: list[tuple[str, str] | None] = []
        notes = []
        for pair in pairs:
            try:
                prompt, cut = self._prompt(pair)
                prompts.append(prompt)
                notes.append((OK, cut))
            except ValueError:
                prompts.append(None)
                notes.append((TOO_LONG, False))
        return prompts, notes

    def _read(self, pairs: Sequence[Pair]) -> tuple[np.ndarray, list[tuple[str, bool]], list[str | None]]:
        """Label logits (N, L), (status, item cut) per pair, and what was written before the label, if anything."""
        prompts, notes = self._prompts(pairs)
        logits = np.full((len(pairs), len(self.scale)), np.nan)
        written: list[str | None] = [None] * len(pairs)
        usable = [(i, prompt) for i, prompt in enumerate(prompts) if prompt is not None]
        if self.card.order == "reason_first":
            self._read_reason_first(usable, logits, notes, written)
        elif usable:
            rows = self.model.label_logits([prompt for _, prompt in usable], self.card.label_token_ids)
            logits[[i for i, _ in usable]] = rows
        return logits, notes, written

    def _read_reason_first(
        self,
        usable: list[tuple[int, tuple[str, str]]],
        logits: np.ndarray,
        notes: list[tuple[str, bool]],
        written: list[str | None],
    ) -> None:
        """Decode the steps, then read the label's probabilities where the label was written."""
        continued: list[tuple[int, list[int]]] = []
        for (i, prompt), done in zip(usable, self._generate([p for _, p in usable]), strict=True):
            written[i] = done.text
            parsed = parse(done.text, "reason_first", len(self.scale))
            if parsed.label is None:
                notes[i] = (parsed.status, notes[i][1])
                continue
            token = self.card.label_token_ids[parsed.label]
            end = len(done.token_ids) - 1 - done.token_ids[::-1].index(token)
            continued.append((i, [*self.model.encode_pair(*prompt), *done.token_ids[:end]]))
        if continued:
            rows = self.model.label_logits([ids for _, ids in continued], self.card.label_token_ids)
            logits[[i for i, _ in continued]] = rows

    def _verdict(self, probabilities: np.ndarray, status: str, cut: bool) -> Verdict:
        if status != OK or np.isnan(probabilities).any():
            return Verdict(None, None, None, status if status != OK else "no_probabilities", item_cut=cut)
        values = tuple(float(p) for p in probabilities)
        return self.tiered(Verdict(int(probabilities.argmax()), values, None, item_cut=cut))

    def _with_reason(self, verdict: Verdict, text: str | None) -> Verdict:
        """Attach a rationale. One that cannot be read is kept as written, with the name of what is wrong with it."""
        if text is None or verdict.label is None:
            return verdict
        parsed = parse(text, self.card.order, len(self.scale))
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        body = lines[1:] if self.card.order == "label_first" else lines[:-1]
        inconsistent = contradicts(replace(parsed, label=verdict.label), self.rules)
        return replace(verdict, reason="\n".join(body), inconsistent=inconsistent, reason_status=parsed.status)


def _folder_hash(folder: Path) -> str:
    """16 hex of sha256 over the folder's weights, configuration and tokenizer; judge.json counts through `identity`."""
    digest = hashlib.sha256()
    kept = re.compile(r".*\.(safetensors|bin|model)|(adapter_)?config\.json|tokenizer.*\.json|vocab.*|merges\.txt")
    for path in sorted(p for p in folder.iterdir() if p.name != CARD_FILE and kept.fullmatch(p.name)):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
