"""A policy that collapses is stopped: what its own rollouts say is compared with how the run began."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

WATCHED = ("share_kept", "accuracy", "inconsistent", "unreadable_steps", "label_spread")


class Collapsed(ValueError):
    """The policy has collapsed under these settings; the message says by which sign, and what helps."""


class CollapseDetector:
    """Watches the facts of updates; a Collapsed error when a mean over `window` updates leaves its bounds.

    Compared with the run's first `window` updates: groups with right and wrong completions (share_kept) under
    `mixed_floor` times their share at the start, where accuracy has not risen by 0.05 or three tenths of what was wrong
    (a policy that learns has fewer mixed groups too; prompts that screening passed over are right);
    self-contradiction (inconsistent), or steps that cannot be read (unreadable_steps) and so contradict nothing, more
    than `contradiction_rise` above it; entropy of the labels given (label_spread, 0..1) under `spread_floor` times.
    Token entropy is no sign: it rises when a rationale rots (notes/learnability.md).
    """

    def __init__(
        self,
        window: int = 10,
        mixed_floor: float = 0.3,
        contradiction_rise: float = 0.4,
        spread_floor: float = 0.5,
    ) -> None:
        self._window = window
        self._limits = {"mixed_floor": mixed_floor, "rise": contradiction_rise, "spread_floor": spread_floor}
        self._first: list[dict[str, float]] = []
        self._last: deque[dict[str, float]] = deque(maxlen=window)

    def __call__(self, record: Mapping[str, Any]) -> None:
        """See one update's record; raises Collapsed."""
        facts = {name: float(record[name]) for name in WATCHED if name in record}
        if "accuracy" in facts:  # of the prompts that were sampled; the others were found right
            facts["accuracy"] += (1 - facts["accuracy"]) * float(record.get("share_screened", 0.0))
        if len(self._first) < self._window:
            self._first.append(facts)
            return
        self._last.append(facts)
        if len(self._last) < self._window:
            return
        problem = self._problem()
        if problem:
            raise Collapsed(
                f"update {record['update']}: the policy has collapsed: {problem}. The curves are in the run folder; "
                "begin anew with a lower learning_rate or a higher loss.kl"
            )

    def _means(self, name: str) -> tuple[float, float] | None:
        """(at the start, now) of a fact that all updates have."""
        rows = [*self._first, *self._last]
        if any(name not in row for row in rows):
            return None
        return (
            sum(row[name] for row in self._first) / len(self._first),
            sum(row[name] for row in self._last) / len(self._last),
        )

    def _problem(self) -> str | None:
        """The first sign of collapse in words."""
        mixed, accuracy, contradiction, unreadable, spread = map(self._means, WATCHED)
        learned = accuracy is not None and accuracy[1] > accuracy[0] + min(0.05, 0.3 * (1 - accuracy[0]))
        if mixed and not learned and mixed[1] < self._limits["mixed_floor"] * mixed[0]:
            return f"groups with right and wrong completions fell from {mixed[0]:.2f} to {mixed[1]:.2f}"
        if contradiction and contradiction[1] > contradiction[0] + self._limits["rise"]:
            return f"labels that contradict their own steps rose from {contradiction[0]:.2f} to {contradiction[1]:.2f}"
        if unreadable and unreadable[1] > unreadable[0] + self._limits["rise"]:
            return f"reasons that cannot be read rose from {unreadable[0]:.2f} to {unreadable[1]:.2f}"
        if spread and spread[1] < self._limits["spread_floor"] * spread[0]:
            return f"the labels given narrow to few: their entropy fell from {spread[0]:.2f} to {spread[1]:.2f}"
        return None

    def state_dict(self) -> dict[str, Any]:
        """What was seen."""
        return {"first": list(self._first), "last": list(self._last)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on watching."""
        self._first, self._last = list(state["first"]), deque(state["last"], maxlen=self._window)
