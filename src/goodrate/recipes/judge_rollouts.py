"""Sampling a judge: its prompts as tokens, the ones it is uncertain of, its completions, and preference pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.preferences import PreferencePair, preference_pairs
from goodrate.learning.records import Prompts, Rollout
from goodrate.learning.rollout import Sampling, sample
from goodrate.learning.rollout_method import TokenizedPrompt
from goodrate.learning.sampling import accuracy_by_group
from goodrate.learning.solved import AlreadySolved, PromptTally
from goodrate.learning.source import seed_of
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import label_token_ids, open_policy, stop_token_id
from goodrate.recipes.label_grader import LabelGrader
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.rationale import contradicts


def tokenize_prompts(model: CausalLM, prompts: Sequence[JudgePrompt], room: int) -> list[TokenizedPrompt]:
    """Prompts as token ids; ValueError naming the first that leaves less than `room` tokens for its completion."""
    tokenized = []
    for prompt in prompts:
        ids = model.encode_pair(prompt.prefix, prompt.suffix)
        if model.max_length is not None and len(ids) + room > model.max_length:
            raise ValueError(f"{prompt.example_id}: {len(ids)} tokens leave no room for {room} of {model.max_length}")
        tokenized.append(TokenizedPrompt(prompt.example_id, tuple(ids), prompt.label))
    return tokenized


def uncertain_prompts(
    model: CausalLM, prompts: Sequence[JudgePrompt], judge_format: JudgeFormat, below: float
) -> list[JudgePrompt]:
    """The prompts whose likeliest label has a probability under `below`: the pool that sampling does not waste time on.

    Each is asked as it will be in serving, with its retrieved text where it has one; one forward pass tells. Pools
    under 0.7 are those of DyKnow-RAG (arXiv 2510.11122). below = 1: all.
    Raises ValueError for a reason-first judge, whose label is not its first token, and when no prompt is left:
    AlreadySolved where the labels that the judge is sure of are right.
    """
    if below >= 1:
        return list(prompts)
    if judge_format.order != "label_first":
        raise ValueError("pool_confidence needs a label-first judge: only its first token is the label")
    logits = model.label_logits([p.served for p in prompts], label_token_ids(model, judge_format.relevance_scale))
    confidences, likeliest = (values.tolist() for values in torch.from_numpy(logits).softmax(1).max(1))
    uncertain = [prompt for prompt, confidence in zip(prompts, confidences, strict=True) if confidence < below]
    if not uncertain:
        tally = PromptTally()
        tally.add((p.example_id, p.label, float(p.label == label)) for p, label in zip(prompts, likeliest, strict=True))
        sure = f"pool_confidence = {below}: the judge is surer of every one of {len(prompts)} prompts"
        if tally.solved:
            raise AlreadySolved(f"{sure}; solved: {tally.right:,} of {tally.scored:,} prompts are answered right")
        raise ValueError(f"{sure}, and right on {tally.right:,}: raise it to learn from the others")
    return uncertain


class PairSampling(BaseModel):
    """How samples become preference pairs."""

    model_config = ConfigDict(extra="forbid")
    samples: int = Field(default=5, gt=1, description="completions per prompt (N of pass@N)")
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=96, gt=0)
    max_oracle_share: float = Field(default=0.3, ge=0, le=1, description="oracle pairs beyond this share are dropped")


def sample_completions(
    model: CausalLM, grader: LabelGrader, prompts: Sequence[TokenizedPrompt], settings: PairSampling, seed: int,
    purpose: str,
) -> Rollout:  # fmt: skip
    """So many completions of every prompt; purpose: what for, part of the seeds."""
    sampling = Sampling(settings.samples, settings.temperature, settings.max_new_tokens, stop_token_id(model))
    shown = Prompts(tuple(p.example_id for p in prompts), tuple(p.token_ids for p in prompts))
    seeds = [seed_of(seed, purpose, p.example_id, number) for p in prompts for number in range(settings.samples)]
    return sample(model, shown, sampling, seeds, grader.parse)


def sample_rollouts(
    judge: str | Path, prompts: Sequence[JudgePrompt], samples: int, seed: int, purpose: str
) -> tuple[Rollout, CausalLM]:
    """So many rollouts of a judge folder on every prompt, as they are sampled in training, and its model."""
    model, judge_format, rule_labels = open_policy(judge)
    tokenized = tokenize_prompts(model, prompts, judge_format.max_new_tokens)
    settings = PairSampling(samples=samples, max_new_tokens=judge_format.max_new_tokens)
    return sample_completions(model, LabelGrader(judge_format, rule_labels), tokenized, settings, seed, purpose), model


def sample_pairs(
    model: CausalLM, grader: LabelGrader, prompts: Sequence[TokenizedPrompt], oracle: Mapping[str, tuple[int, ...]],
    settings: PairSampling, seed: int,
) -> tuple[list[PreferencePair], dict[str, float], PromptTally]:  # fmt: skip
    """Pairs from N samples per prompt, the counts of prompts by what became of them and pass@1..N, who is right.

    Confidence of a sample is the probability of its first token: label-first, that of the label.
    oracle: right completions as token ids, by example_id.
    """
    rollout = sample_completions(model, grader, prompts, settings, seed, "pairs")
    correct = grader.grade(rollout, prompts).correct
    sound = torch.tensor([p is not None and contradicts(p, grader.rule_labels) is False for p in rollout.parsed])
    assert rollout.behaviour_logprobs is not None
    confidence = rollout.behaviour_logprobs[:, 0]
    pairs, counts = preference_pairs(rollout, correct, sound, confidence, oracle.get, settings.max_oracle_share)
    tally = PromptTally()
    shares = accuracy_by_group(correct, rollout.group).tolist()
    tally.add((p.example_id, p.label, share) for p, share in zip(prompts, shares, strict=True))
    return pairs, {**counts, **pass_at(correct.view(len(prompts), settings.samples))}, tally


def pass_at(correct: Tensor) -> dict[str, float]:
    """pass@k, k = 1..N, from N samples of P prompts (P, N): unbiased, 1 - C(wrong, k) / C(N, k) (arXiv 2107.03374)."""
    num = correct.shape[1]
    wrong = (correct != 1).sum(1).tolist()

    def passed(k: int) -> float:
        return sum(1 - math.comb(w, k) / math.comb(num, k) for w in wrong) / len(wrong)

    return {f"pass@{k}": passed(k) for k in range(1, num + 1)}
