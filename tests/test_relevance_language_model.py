"""An LM judge over a language model that is no CausalLM: the protocol is all that it uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from goodrate.models.decoding import Completion
from goodrate.models.language_model import LanguageModel, Prompt
from goodrate.relevance.lm_judge import Card, LmJudge
from goodrate.relevance.pairs import Pair


class LongerTitlesAreBetter:
    """Letters are tokens; the longer an item's part of the prompt, the better its label."""

    precision = "fp32"
    max_length: int | None = 400

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def encode_pair(self, prefix: str, suffix: str) -> list[int]:
        return self.encode(prefix) + self.encode(suffix)

    def label_logits(self, prompts: Sequence[Prompt], label_token_ids: Sequence[int]) -> np.ndarray:
        lengths = np.array([len(prompt[1]) for prompt in prompts], dtype=np.float32)  # type: ignore[arg-type]
        return lengths[:, None] / 100 * np.arange(len(label_token_ids), dtype=np.float32)

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int, stop_token_id: int | None) -> list[Completion]:
        raise AssertionError("a label-first judge generates for reasons alone")


def test_a_judge_needs_no_more_than_the_protocol() -> None:
    model: LanguageModel = LongerTitlesAreBetter()
    judge = LmJudge(model, Card(scale="four_level", label_token_ids=(1, 2, 3, 4), max_new_tokens=8))
    titles = ["lamp", "lamp of brass and of oak", "lamp " * 200]
    judged = judge.assess([Pair("lamp", {"id": "a", "title": title}) for title in titles])
    assert judged.probabilities.sum(axis=1) == pytest.approx(1) and judged.status == ("ok",) * 3
    assert judged.probabilities[0, 3] < judged.probabilities[1, 3] < judged.probabilities[2, 3]
    assert judged.item_cut == (False, False, True)  # 400 tokens, less the reason's room
