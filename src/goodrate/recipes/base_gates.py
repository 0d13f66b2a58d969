"""Gates of the base model: does it have the skills on which judging is learned?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from goodrate.models.causal_lm import CausalLM
from goodrate.models.label_forward import pad_right
from goodrate.models.precision import autocast, evaluating
from goodrate.shop.skills import GATE, Probe


@dataclass(frozen=True)
class SkillScore:
    """Share of words wholly right, each predicted with the true text before it, over `count` words."""

    accuracy: float
    count: int

    @property
    def passed(self) -> bool:
        """Whether the gate of 0.95 is reached."""
        return self.accuracy >= GATE


def _token_spans(model: CausalLM, probe: Probe) -> tuple[list[int], list[tuple[str, int, int]]]:
    """Token ids of the whole probe, and each target as a span of token positions."""
    prompt = [token for part in probe.read for token in model.encode(part)]
    encoding = model.tokenizer(probe.say, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoding["offset_mapping"]
    spans = []
    for skill, start, end in probe.targets:
        inside = [i for i, (left, right) in enumerate(offsets) if right > start and left < end]
        spans.append((skill, len(prompt) + inside[0], len(prompt) + inside[-1] + 1))
    return prompt + list(encoding["input_ids"]), spans


@torch.no_grad()
def score_skills(model: CausalLM, probes: Sequence[Probe], batch_size: int = 50) -> dict[str, SkillScore]:
    """Accuracy per skill. A target counts as right when every token of it is the most probable one."""
    right: dict[str, list[bool]] = {}
    encoded = sorted((_token_spans(model, probe) for probe in probes), key=lambda pair: len(pair[0]))
    with evaluating(model.network), autocast(model.precision, model.device):
        for start in range(0, len(encoded), batch_size):
            batch = encoded[start : start + batch_size]
            ids = pad_right([tokens for tokens, _ in batch], model.pad_id, model.device)
            predicted = model.network(input_ids=ids).logits[:, :-1].argmax(-1)
            hit = (predicted == ids[:, 1:]).cpu()  # hit[row, t - 1]: token t was predicted
            for row, (_, spans) in enumerate(batch):
                for skill, first, last in spans:
                    right.setdefault(skill, []).append(bool(hit[row, first - 1 : last - 1].all()))
    return {skill: SkillScore(sum(hits) / len(hits), len(hits)) for skill, hits in sorted(right.items())}
