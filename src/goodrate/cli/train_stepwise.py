"""`goodrate train judge_stepwise`: rewards for each step of a judge's reasoning, and the dev table."""

from __future__ import annotations

from goodrate.cli.judge_stage import policy_run
from goodrate.recipes import judge_stepwise

Settings, run = policy_run(judge_stepwise)
