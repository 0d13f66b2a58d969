"""What an update's sampling was like: counts, shares and means over all that was sampled, dropped groups included."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from goodrate.learning.records import Reward, Rollout
from goodrate.learning.rollout_method import TokenizedPrompt
from goodrate.learning.sampling import accuracy_by_group, band_counts, group_accuracies, quarters
from goodrate.learning.solved import PromptTally


class RolloutLog:
    """What an update's sampling was like, over all rounds, dropped groups included."""

    def __init__(self, enough: float = 1.0) -> None:
        """enough: the share of right completions from which a prompt has no more to teach."""
        self.tally = PromptTally(enough)
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

    def passed_over(self, solved: Sequence[TokenizedPrompt], tokens: int) -> None:
        """Prompts that screening found solved, and the tokens that it took."""
        self.tally.add((prompt.example_id, prompt.label, 1.0) for prompt in solved)
        self._counts["screened"] += len(solved)
        self._screening_tokens += tokens

    def replayed(self, counts: Mapping[str, int]) -> None:
        """What a second try did."""
        self._replay.update(counts)

    def filtered(
        self, correct: Tensor, group: Tensor, inside: Tensor, prompts: Sequence[TokenizedPrompt]
    ) -> None:  # fmt: skip
        """Groups by why the difficulty band kept or dropped them. prompts: by group."""
        shares = accuracy_by_group(correct, group).tolist()
        self.tally.add((p.example_id, p.label, share) for p, share in zip(prompts, shares, strict=True))
        self._counts.update(band_counts(correct, group, inside))
        self._accuracies += group_accuracies(correct, group).tolist()

    @property
    def groups(self) -> int:
        """How many were sampled or screened out."""
        return sum(self._counts.values())

    @property
    def summary(self) -> str:
        """The counts of groups in words."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self._counts.items()) if count)

    def trouble(self) -> str:
        """Why nothing can be learned from what was sampled, where it is not solved, and what to try."""
        failed, cut_off = (self._sums[name] / max(1, self._rollouts) for name in ("failed", "cut_off"))
        if failed <= 0.5:
            return self.tally.trouble()
        return (
            f"{failed:.0%} of the completions cannot be read, {cut_off:.0%} are cut off. Raise "
            "rollouts.max_new_tokens, or start from a judge that was trained longer; in a new run folder"
        )

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
