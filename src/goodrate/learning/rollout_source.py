"""Updates from rollouts: draw prompts, sample groups, grade, keep the groups worth it, refill, make the update."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from goodrate.learning.fit import TRAINED
from goodrate.learning.policy import micro_batches
from goodrate.learning.records import Prompts, Reward, Rollout, Update, View
from goodrate.learning.rollout import Sampling, join, join_rewards, sample_shared, take, take_reward
from goodrate.learning.rollout_log import RolloutLog
from goodrate.learning.rollout_method import Method, SampleGroups, TokenizedPrompt
from goodrate.learning.sampler import Sampler, TakesWeights
from goodrate.learning.sampling import (
    accuracy_by_group,
    coefficient_of_variation,
    difficulty_band,
    missing_groups,
    within_quota,
)
from goodrate.learning.solved import ENOUGH
from goodrate.learning.source import refuse_other_data, seed_of
from goodrate.learning.vllm_sampler import VllmSampler, VllmSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.models.memory import release_memory
from goodrate.settings import decides_result


class RolloutSettings(BaseModel):
    """How groups are sampled and which of them become an update."""

    model_config = ConfigDict(extra="forbid")
    prompts: int = Field(default=32, gt=0, description="groups in one update")
    group_size: int = Field(default=8, gt=1, description="completions per prompt")
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: int = Field(default=96, gt=0, description="longer completions are cut off and count as failures")
    minimum: float = Field(default=0.0, description="a group needs more than this share of right completions")
    maximum: float = Field(default=1.0, description="and less than this one; 0 and 1 drop all-right and all-wrong only")
    balanced: bool = Field(default=True, description="as many groups of every gold label, after the filter")
    rounds: int = Field(default=3, gt=0, description="refills before an update takes what is there")
    oversampling: float = Field(default=1.5, ge=1, description="prompts drawn per group that is wanted")
    screening: int = Field(
        default=0, ge=0, description="samples drawn of a prompt first; if all are right, it is passed over"
    )
    rest: int | None = Field(
        default=None,
        gt=0,
        description="a prompt solved in n screenings in a row is left out for n epochs, at most so many; null = never",
    )
    inner_steps: int = Field(default=1, gt=0, description="optimizer steps on the same rollouts")
    micro_tokens: int = Field(default=4096, gt=0, description="tokens of a micro-batch; memory and speed only")
    vllm: VllmSettings | None = Field(default=None, description="sample by a vLLM server; null = by the policy itself")

    @property
    def on_policy(self) -> bool:
        """Whether rollouts serve one step, so that the policy that sampled is the one that learns."""
        return self.inner_steps == 1

    @model_validator(mode="after")
    def _is_band(self) -> RolloutSettings:
        if self.minimum >= self.maximum:
            raise ValueError(f"rollouts: a band from minimum to maximum, not from {self.minimum} to {self.maximum}")
        return self

    @model_validator(mode="after")
    def _rests_need_screening(self) -> RolloutSettings:
        if self.rest and not self.screening:
            raise ValueError("rollouts.rest needs rollouts.screening: only screening tells that a prompt is solved")
        return self


class NothingToLearn(ValueError):
    """No group with right and wrong completions was found: the task is too hard, or the policy has collapsed."""


class RolloutSource:
    """A source of updates on the policy's own completions. Each label has a queue of its own when balanced.

    It ends when the prompts are solved; `ended` then says so, and is empty before.
    """

    def __init__(
        self, settings: RolloutSettings, model: CausalLM, prompts: Sequence[TokenizedPrompt], method: Method,
        *, num_labels: int, stop_token_id: int | None, seed: int,
    ) -> None:  # fmt: skip
        """model: the policy that fit trains; it is asked for completions in evaluation mode."""
        if not prompts:
            raise ValueError("no prompts to sample from")
        self._settings, self._prompts, self._method = settings, prompts, method
        self._sampler: Sampler = VllmSampler(settings.vllm, model) if settings.vllm else model
        self._num_labels, self._seed = num_labels, seed
        self._sampling = Sampling(settings.group_size, settings.temperature, settings.max_new_tokens, stop_token_id)
        self._queues = _queues(prompts, settings.balanced)
        self._positions = dict.fromkeys(self._queues, 0)
        self._solved: dict[int, tuple[int, int]] = {}  # row -> times in a row, first epoch that has it again
        self._pending: Update | None = None
        self.ended = ""
        self._gold = {prompt.example_id: prompt.label for prompt in prompts}
        digest = hashlib.sha256(repr([(p.example_id, p.token_ids, p.label) for p in prompts]).encode()).hexdigest()
        self._identity = {"sha256": digest, "seed": seed, "settings": _deciding(settings.model_dump(mode="json"))}

    def next(self, step: int) -> Update | None:
        """The update of that number, None where the prompts are solved; new rollouts every inner_steps updates.

        Raises NothingToLearn where they are not and no group has both right and wrong completions.
        """
        if self.ended:
            return None
        if self.reads_model(step):
            self._pending = self._collect(step // self._settings.inner_steps)
        return self._pending

    def reads_model(self, step: int) -> bool:
        """Whether the update of that number is sampled from the policy as it then is."""
        return step % self._settings.inner_steps == 0 or self._pending is None

    def _collect(self, number: int) -> Update | None:
        """Sample and filter until every queue's quota is full or the rounds are spent. None: the prompts are solved."""
        release_memory()
        if isinstance(self._sampler, TakesWeights):
            self._sampler.take_weights()
        quota = -(-self._settings.prompts // len(self._queues))
        have: Counter[int] = Counter()
        collected: list[tuple[Rollout, Reward]] = []
        log = RolloutLog(self._settings.maximum)
        for attempt in itertools.count():
            missing = missing_groups(have, self._queues, quota)
            if not missing or self._is_over(attempt, quota, bool(collected), log):
                break
            drawn = self._drawn(missing, number, attempt, log)
            if not drawn:
                continue
            rollout, prompts = self._sample(drawn, self._settings.group_size, number, attempt)
            reward = self._method.grader.grade(rollout, prompts)
            log.add(rollout, reward, self._method.facts(rollout, reward))
            if self._method.replay is not None:
                sample_groups = self._sample_groups(self._settings.group_size, number, attempt, "replay")
                rollout, reward, counts = self._method.replay.replayed(rollout, reward, prompts, sample_groups, number)
                log.replayed(counts)
            inside = self._inside(rollout, reward)
            log.filtered(reward.correct, rollout.group, inside, prompts)
            labels = [label for label, _ in drawn]
            useful = self._needed(rollout, inside, labels, missing)
            have.update(labels[group] for group in torch.unique(rollout.group[useful]).tolist())
            if useful.any():
                collected.append((take(rollout, useful), take_reward(reward, useful)))
        if not collected:
            self._end(number, log)
            return None
        rollouts, rewards = zip(*collected, strict=True)
        return self._update(join(rollouts), join_rewards(rewards), log)

    def _is_over(self, attempt: int, quota: int, found: bool, log: RolloutLog) -> bool:
        """Whether the rounds are spent. While nothing is found because all is right, they go on to the others.

        Two passes over the longest queue show every prompt once, wherever in it the first one began.
        """
        settings = self._settings
        if found or attempt < settings.rounds or not log.tally.solved:
            return attempt >= settings.rounds
        longest = max(map(len, self._queues.values()))
        passes = math.ceil(2 * longest / math.ceil(quota * settings.oversampling))
        return log.tally.scored >= min(ENOUGH, len(self._gold)) or attempt >= settings.rounds + passes

    def _end(self, number: int, log: RolloutLog) -> None:
        """Say in `ended` that there is no more to learn. NothingToLearn where that is no success."""
        if not log.tally.solved:
            raise NothingToLearn(
                f"update {number}: none of {log.groups} sampled groups has right and wrong completions; "
                f"{log.summary}. {log.trouble()}"
            )
        self.ended = log.tally.says(len(self._gold))

    def _drawn(self, missing: Mapping[int, int], number: int, attempt: int, log: RolloutLog) -> list[tuple[int, int]]:
        """(queue, row) of prompts to sample groups of: more than are missing, since some groups will be dropped."""
        drawn: list[tuple[int, int]] = []
        for label, count in missing.items():
            drawn += [(label, row) for row in self._draw(label, math.ceil(count * self._settings.oversampling))]
        if not self._settings.screening:
            return drawn
        rollout, prompts = self._sample(drawn, self._settings.screening, number, attempt, "screening")
        solved = (accuracy_by_group(self._method.grader.correct(rollout, prompts), rollout.group) == 1).tolist()
        passed = [prompt for prompt, right in zip(prompts, solved, strict=True) if right]
        log.passed_over(passed, int(rollout.mask.sum()))
        for (label, row), right in zip(drawn, solved, strict=True):
            self._rest(label, row, right)
        return [place for place, right in zip(drawn, solved, strict=True) if not right]

    def _sample(
        self, drawn: Sequence[tuple[int, int]], size: int, number: int, attempt: int, *purpose: str
    ) -> tuple[Rollout, list[TokenizedPrompt]]:
        """Groups of `size` completions of the prompts, and those. The group of a screened prompt is sampled anew, so
        that what chose the prompt is not in its advantages."""
        prompts = [self._prompts[row] for _, row in drawn]
        return self._method.arms.sampled(self._sample_groups(size, number, attempt, *purpose), prompts), prompts

    def _sample_groups(self, group_size: int, number: int, attempt: int, *purpose: str) -> SampleGroups:
        """Sampling of one attempt; every rollout's seed follows from its example and its place in the draw."""

        def sample_groups(
            prompts: Sequence[TokenizedPrompt], token_ids: Sequence[tuple[int, ...]] | None = None,
            *, size: int | None = None, share: float = 1.0, view: View = "plain", arm: int = 0,
        ) -> Rollout:  # fmt: skip
            ids = token_ids or [prompt.token_ids for prompt in prompts]
            shown = Prompts(tuple(prompt.example_id for prompt in prompts), tuple(ids), view)
            count = size or max(1, int(group_size * share))
            other = (arm,) if arm else ()
            seeds = [
                seed_of(self._seed, *purpose, number, attempt, prompt.example_id, place, sample_number, *other)
                for place, prompt in enumerate(prompts)
                for sample_number in range(count)
            ]
            sampling = replace(self._sampling, group_size=count)
            return sample_shared(self._sampler, shown, sampling, seeds, self._method.grader.parse, arm)

        return sample_groups

    def _rest(self, label: int, row: int, right: bool) -> None:
        """Leave a solved prompt out for as many epochs as it was found solved in a row; call in one that was not."""
        if not self._settings.rest or not right:
            self._solved.pop(row, None)
            return
        times = self._solved.get(row, (0, 0))[0] + 1
        epoch = max(0, self._positions[label] - 1) // len(self._queues[label])
        self._solved[row] = times, epoch + 1 + min(times, self._settings.rest)

    def _draw(self, label: int, count: int) -> list[int]:
        """The next rows of a label's queue that do not rest, epoch by epoch in a new order each.

        Fewer than `count` where so many rest that a whole round of rests holds no more.
        """
        rows, place = self._queues[label], self._positions[label]
        orders: dict[int, list[int]] = {}
        drawn: list[int] = []
        last = place + count + len(rows) * (2 + self._settings.rest if self._settings.rest else 0)
        while len(drawn) < count and place < last:
            epoch, at = divmod(place, len(rows))
            if epoch not in orders:
                orders[epoch] = _shuffled(rows, self._seed, label, epoch)
            row = orders[epoch][at]
            if self._solved.get(row, (0, 0))[1] <= epoch:
                drawn.append(row)
            place += 1
        self._positions[label] = place
        return drawn

    def _inside(self, rollout: Rollout, reward: Reward) -> Tensor:
        """Which rollouts (N,) belong to a group inside the difficulty band."""
        low, high = self._settings.minimum, self._settings.maximum
        return difficulty_band(reward.correct, rollout.group, low=low, high=high)

    def _needed(self, rollout: Rollout, inside: Tensor, labels: Sequence[int], missing: Mapping[int, int]) -> Tensor:
        """Those of the rollouts inside the band (N,) whose queue still needs their group."""
        groups = torch.unique(rollout.group[inside])
        needed = within_quota([labels[group] for group in groups.tolist()], missing)
        return torch.isin(rollout.group, groups[needed])

    def _update(self, rollout: Rollout, reward: Reward, log: RolloutLog) -> Update:
        terms, diagnostics = self._method.terms
        credit, views = self._method.credit(rollout, reward), self._method.arms.views(rollout)
        batches = micro_batches(rollout, credit, self._settings.micro_tokens, views)
        rows = dict(zip(rollout.group.tolist(), rollout.example_id.tolist(), strict=True))  # one a group, of either arm
        labels = [self._gold[rollout.sampled_under.example_ids[row]] for row in rows.values()]
        cv = coefficient_of_variation(labels, self._num_labels)
        size = {"groups": float(len(labels)), TRAINED: float(rollout.mask.sum())}
        shares = {f"labels/{label + 1}": labels.count(label) / len(labels) for label in range(self._num_labels)}
        return Update(batches, terms, {**log.facts(), **size, **shares, "label_cv": cv}, diagnostics)

    def state_dict(self) -> dict[str, Any]:
        """Queue positions, what the order depends on, rollouts that have inner steps left, and whether it has ended."""
        pending = list(self._pending.micro_batches) if self._pending and self._settings.inner_steps > 1 else None
        queues = {"positions": dict(self._positions), "solved": dict(self._solved)}
        method = self._method.state_dict()
        return {**self._identity, **queues, "pending": pending, "method": method, "ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. ValueError naming what differs when the data or the settings are others."""
        held = state["settings"]
        held = json.loads(held) if isinstance(held, str) else held  # older checkpoints
        held = {"vllm": None, **held}  # and those from before that setting
        refuse_other_data(self._identity, {**state, "settings": _deciding(held)})
        self._positions = dict(state["positions"])
        self._solved = dict(state.get("solved", {}))
        self.ended = state.get("ended", "")
        self._method.load_state_dict(state.get("method", {}))
        if state["pending"] is not None:
            terms, diagnostics = self._method.terms
            self._pending = Update(state["pending"], terms, {}, diagnostics)


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the updates depend on."""
    return {name: value for name, value in settings.items() if decides_result(name)}


def _queues(prompts: Sequence[TokenizedPrompt], balanced: bool) -> dict[int, list[int]]:
    """Rows by gold label, or all in one queue (0)."""
    queues: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        queues.setdefault(prompt.label if balanced else 0, []).append(row)
    return dict(sorted(queues.items()))


def _shuffled(rows: Sequence[int], seed: int, label: int, epoch: int) -> list[int]:
    return random.Random(seed_of(seed, "queue", label, epoch)).sample(list(rows), len(rows))
