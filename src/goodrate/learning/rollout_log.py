"""What an update's sampling was like: counts, shares and means over all that was sampled, dropped groups included."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from goodrate.learning.records import Reward, Rollout
from goodrate.learning.sampling import band_counts, group_accuracies, quarters


class RolloutLog:
    """What an update's sampling was like, over all rounds, dropped groups included."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._counts: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._replay: Counter[str] = Counter()
        self._rollouts = self._tokens = self._screening_tokens = 0
        self._accuracies: list[float] = []

    def add(self, rollout: Rollout, reward: Reward, facts: Mapping[str, float]) -> None:
        """Rollouts and their rewards; facts: the method's own numbers about them."""
        count = len(rollout.parsed)
        self._rollouts += count
        self._tokens += int(rollout.mask.sum())
        values = {
            "accuracy": float(reward.correct.nanmean()),
            "reward": float(reward.outcome.nanmean()),
            "failed": float(reward.failed.float().mean()),
            "cut_off": sum(why == "length" for why in rollout.finish_reason) / count,
            **{f"reward/{name}": float(part.nanmean()) for name, part in reward.parts.items()},
            **facts,
        }
        self._sums.update({name: value * count for name, value in values.items()})

    def passed_over(self, count: int, tokens: int) -> None:
        """Prompts that screening found solved, and the tokens that it took."""
        self._counts["screened"] += count
        self._screening_tokens += tokens

    def replayed(self, counts: Mapping[str, int]) -> None:
        """What a second try did."""
        self._replay.update(counts)

    def filtered(self, correct: Tensor, group: Tensor, inside: Tensor) -> None:
        """Groups by why the difficulty band kept or dropped them."""
        self._counts.update(band_counts(correct, group, inside))
        self._accuracies += group_accuracies(correct, group).tolist()

    @property
    def groups(self) -> int:
        """How many were sampled or screened out."""
        return sum(self._counts.values())

    @property
    def summary(self) -> str:
        """The counts of groups in words."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self._counts.items()))

    def facts(self) -> dict[str, float]:
        """The numbers of the update."""
        seconds = time.perf_counter() - self._started
        shares = {
            f"share_{name}": self._counts[name] / self.groups
            for name in ("kept", "all_right", "all_wrong", "outside_band", "unscored", "screened")
        }
        means = {name: total / self._rollouts for name, total in self._sums.items()}
        length = self._tokens / self._rollouts
        histogram = {f"groups_at/{name}": share for name, share in quarters(self._accuracies).items()}
        sampled = (self._tokens + self._screening_tokens) / seconds
        rate = {"length": length, "sampled_tokens_per_second": sampled, "sampled_groups": self.groups}
        replay = {name: float(count) for name, count in self._replay.items()}
        return {**shares, **histogram, **means, **rate, **replay}
