"""When prompts have nothing to teach: solved, too hard, or a policy that has lost its variety.

A group whose completions are all right, or all wrong, has no advantages. Which of both it is tells a run that has
reached its end from one that cannot begin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

SOLVED_SHARE = 0.9  # of the prompts; labels are never without errors
ENOUGH = 300  # prompts without one to learn from: fewer than one in a hundred has something to teach (95 %)


class AlreadySolved(ValueError):
    """The policy is right on its prompts before any training; the message says on how many."""


class PromptTally:
    """Which prompts the policy is right on in every sample, of those that were sampled and scored."""

    def __init__(self, enough: float = 1.0) -> None:
        """enough: the share of right samples from which a prompt counts as one that the policy is right on."""
        self._enough = enough
        self._right: dict[str, bool] = {}
        self._labels: dict[str, int] = {}

    def add(self, prompts: Iterable[tuple[str, int, float]]) -> None:
        """(example_id, gold label position, share of right samples) each; a share of NaN was not scored.

        A prompt that comes again is right when it was and is.
        """
        for name, label, share in prompts:
            if share == share:
                self._right[name] = self._right.get(name, True) and share >= self._enough
                self._labels[name] = label

    @property
    def scored(self) -> int:
        """How many prompts."""
        return len(self._right)

    @property
    def right(self) -> int:
        """How many of them the policy is right on."""
        return sum(self._right.values())

    @property
    def solved(self) -> bool:
        """Whether the policy is right on nine prompts in ten, and on more than half of those of every gold label.

        A policy that gives one label to everything is not, however frequent that label is.
        """
        if self.right < SOLVED_SHARE * self.scored or not self.scored:
            return False
        every, right = Counter(self._labels.values()), Counter(self._labels[n] for n, yes in self._right.items() if yes)
        return all(right[label] > count / 2 for label, count in every.items())

    def says(self, pool: int | None = None) -> str:
        """The finding in words. pool: how many prompts there are, where not all were sampled."""
        drawn = f", drawn from {pool:,}," if pool is not None and pool > self.scored else ""
        how = "by every sample" if self._enough >= 1 else f"by {self._enough:.0%} of their samples or more"
        wrong = self.scored - self.right
        rest = f" ({wrong:,} not: look at their labels)" if wrong else ""
        return f"solved: {self.right:,} of {self.scored:,} prompts{drawn} are answered right {how}{rest}"

    def trouble(self) -> str:
        """Why nothing can be learned from prompts that are not solved, and what to try."""
        if not self.scored:
            return "No completion could be scored: do the prompts have gold labels?"
        if not self.right:
            return (
                "Too hard: no sample is right. Start from a judge that was trained longer (judge_sft), ask with hints "
                "(judge_guided), or raise rollouts.group_size; in a new run folder"
            )
        return (
            f"Every prompt is answered the same way each time, {self.right:,} of {self.scored:,} right: the policy has "
            "collapsed or is too sure. Start from an earlier judge with a lower learning_rate and a higher loss.kl, or "
            "raise rollouts.temperature; in a new run folder"
        )
