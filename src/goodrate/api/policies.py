"""What a policy would earn, from the log of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.evaluation.off_policy import PolicyValue
    from goodrate.evaluation.policy_log import PolicyLog


def read_policy_log(
    log: str | Path, target: str | Path | None = None, mapping: Mapping[str, str] | None = None, skip_bad: int = 0,
    features: Sequence[str] = (), group: str | None = None,
) -> PolicyLog:  # fmt: skip
    """Decisions with rewards and propensities, and what the target would do: evaluation/policy_log.py."""
    from goodrate.evaluation.policy_log import read_policy_log as read

    return read(log, target, dict(mapping) if mapping else None, skip_bad, features, group)


def evaluate_policy(
    log: str | Path, target: str | Path | None = None, *, mapping: Mapping[str, str] | None = None,
    clip: float | None = None, features: Sequence[str] = (), group: str | None = None, skip_bad: int = 0, seed: int = 0,
) -> PolicyValue:  # fmt: skip
    """The mean reward of a target policy from a table of logged decisions, by IPS, SNIPS and, where it can be, DR.

    log: columns reward, propensity and target_propensity, or action where target is a table of action, probability and
    what the probabilities depend on. clip: largest weight. features: columns that the reward model of DR reads. group:
    a column whose rows are resampled together. Raises ValueError with file, row, column and what was expected.
    """
    read = read_policy_log(log, target, mapping, skip_bad, features, group)
    return read.value(clip, seed)
