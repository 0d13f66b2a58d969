"""`goodrate train judge_grpo`: GRPO on groups of the judge's own samples, and the dev table."""

from __future__ import annotations

from goodrate.cli.judge_stage import policy_run
from goodrate.recipes import judge_grpo

Settings, run = policy_run(judge_grpo)
