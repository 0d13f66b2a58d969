"""Which prompts a judge is trained on: not solved, not hopeless, and reasoned about in more than one way.

SHE (arXiv 2510.07972) filters its data for difficulty and diversity, to keep the policy's entropy up. The window, the
measures and the share that is kept are our design (papers/taosr_she.md section 8).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.solved import AlreadySolved, PromptTally
from goodrate.recipes.judge_rollouts import sample_rollouts
from goodrate.recipes.label_grader import reasoning_path


class Window(BaseModel):
    """Shares of right rollouts, from low to high."""

    model_config = ConfigDict(extra="forbid")
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _is_window(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"a window from low to high, not from {self.low} to {self.high}")
        return self


class PoolSettings(Window):
    """Which prompts are kept, by rollouts of the judge that is about to be trained."""

    samples: int = Field(default=8, gt=1, description="rollouts of each prompt")
    low: float = Field(default=0.01, ge=0, le=1, description="least share of right rollouts")
    high: float = Field(default=0.9, ge=0, le=1, description="most of it")
    diverse: float = Field(default=0.5, gt=0, le=1, description="share kept, those with the most ways first; 1 = all")
    per_query: int | None = Field(default=None, gt=0, description="at most so many prompts of a query; null = all")


@dataclass(frozen=True)
class PromptStats:
    """Of one prompt's rollouts: share of right ones, distinct reasonings, entropy of the labels given in nats."""

    pass_rate: float
    paths: int
    label_entropy: float


def prompt_stats(judge: str | Path, prompts: Sequence[JudgePrompt], samples: int, seed: int) -> list[PromptStats]:
    """Statistics of every prompt, from rollouts of a judge folder."""
    rollout, _ = sample_rollouts(judge, prompts, samples, seed, "pool")
    groups = [rollout.parsed[start : start + samples] for start in range(0, len(rollout.parsed), samples)]
    return [_stats(prompt.label, group) for prompt, group in zip(prompts, groups, strict=True)]


def select_prompts(
    judge: str | Path, prompts: Sequence[JudgePrompt], settings: PoolSettings, seed: int
) -> list[JudgePrompt]:
    """The prompts worth training on, by rollouts of a judge folder.

    Raises ValueError when there is none: AlreadySolved when that is because the judge is right.
    """
    stats = prompt_stats(judge, prompts, settings.samples, seed)
    pool = inside_window(prompts, stats, settings)
    if not pool:
        tally = above_window(prompts, stats, settings.high)
        outside = f"pool: none of {len(prompts)} prompts has a share of right rollouts from {settings.low} to "
        if tally.solved:
            raise AlreadySolved(f"{outside}{settings.high}; {tally.says()}")
        raise ValueError(f"{outside}{settings.high}; {tally.right} have more. Widen pool.low and pool.high")
    return pool


def above_window(prompts: Sequence[JudgePrompt], stats: Sequence[PromptStats], high: float) -> PromptTally:
    """Which prompts are answered right more often than any window wants. high: of the highest window."""
    tally = PromptTally(min(1.0, math.nextafter(high, 2.0)))
    tally.add((prompt.example_id, prompt.label, stat.pass_rate) for prompt, stat in zip(prompts, stats, strict=True))
    return tally


def _stats(gold: int, group: Sequence[Any]) -> PromptStats:
    """Of the parsed completions of one prompt."""
    labels = Counter(None if parsed is None else parsed.label for parsed in group)
    shares = [count / len(group) for count in labels.values()]
    entropy = -sum(share * math.log(share) for share in shares)
    paths = {reasoning_path(parsed) for parsed in group if parsed is not None}
    return PromptStats(labels[gold] / len(group), len(paths), entropy)


def inside_window(
    prompts: Sequence[JudgePrompt], stats: Sequence[PromptStats], settings: PoolSettings
) -> list[JudgePrompt]:
    """The prompts inside the window, the more diverse share of them, at most per_query of a query; in their order.

    Diversity is the sum of two ranks: distinct reasonings and entropy of the labels.
    """
    inside = [row for row, stat in enumerate(stats) if settings.low <= stat.pass_rate <= settings.high]
    if not inside:
        return []
    ranks = sum(
        np.unique([getattr(stats[row], name) for row in inside], return_inverse=True)[1]
        for name in ("paths", "label_entropy")
    )
    order = np.argsort(-np.asarray(ranks), kind="stable")[: max(1, round(settings.diverse * len(inside)))]
    seen: Counter[str] = Counter()
    picked = []
    for row in (inside[place] for place in order.tolist()):
        seen[prompts[row].prefix] += 1
        if settings.per_query is None or seen[prompts[row].prefix] <= settings.per_query:
            picked.append(row)
    return [prompts[row] for row in sorted(picked)]
