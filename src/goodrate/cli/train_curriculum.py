"""`goodrate train judge_curriculum`: step rewards in stages, from easy prompts to hard ones, and the dev table."""

from __future__ import annotations

from goodrate.cli.judge_stage import policy_run
from goodrate.recipes import judge_curriculum

Settings, run = policy_run(judge_curriculum)
