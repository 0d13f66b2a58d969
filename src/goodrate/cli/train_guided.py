"""`goodrate train judge_guided`: rule-aware rewards and guided replay, and the dev table."""

from __future__ import annotations

from goodrate.cli.judge_stage import policy_run
from goodrate.recipes import judge_guided

Settings, run = policy_run(judge_guided)
