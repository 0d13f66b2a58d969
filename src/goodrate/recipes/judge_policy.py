"""The run that every recipe shares which trains a judge on its own rollouts; a recipe gives the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.collapse import CollapseDetector
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.learning.policy import PolicyScorer
from goodrate.learning.policy_terms import PolicyTermSettings
from goodrate.learning.reference import freeze_reference
from goodrate.learning.rollout_method import Method
from goodrate.learning.rollout_source import RolloutSettings, RolloutSource
from goodrate.learning.solved import AlreadySolved
from goodrate.models.adapter import LoraSettings, add_adapter
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import open_policy, stop_token_id, write_judge
from goodrate.recipes.judge_rollouts import tokenize_prompts, uncertain_prompts
from goodrate.recipes.label_grader import LabelGrader, LabelNeeds
from goodrate.recipes.solved import mark_solved, solved_judge
from goodrate.run_folder import RunFolder


class PolicySettings(BaseModel):
    """What all of them have."""

    model_config = ConfigDict(extra="forbid")
    optimizer: OptimizerName = Field(default="adamw")
    learning_rate: float = Field(
        default=5e-5, gt=0, allow_inf_nan=False, description="1e-6 for pretrained models of 0.5B up"
    )
    weight_decay: float = Field(default=0.0, ge=0)
    pool_confidence: float = Field(
        default=1.0, gt=0, le=1, description="only prompts whose label the judge is less sure of at the start; 1 = all"
    )
    label_needs: LabelNeeds = Field(
        default="nothing",
        description="what else a right label needs to earn anything: readable steps, a stated rule that has that label "
        "(consistent), or one that also follows from the stated steps by the rule book (derived)",
    )
    lora: LoraSettings | None = Field(default=None, description="train an adapter and not all weights; null = all")
    rollouts: RolloutSettings = Field(default_factory=RolloutSettings)
    loss: PolicyTermSettings = Field(default_factory=PolicyTermSettings)
    fit: FitSettings = Field(default_factory=lambda: FitSettings(updates=200))


def train_policy(
    settings: PolicySettings,
    judge: str,
    method_of: Callable[[CausalLM, LabelGrader], Method],
    prompts: Sequence[JudgePrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
    format_changes: Mapping[str, Any] | None = None,
) -> Path:
    """Train the judge of a folder, its own reference, and write `out/judge`; a killed run resumes.

    A run whose prompts are solved, before it or on the way, ends there: see solved_notes.
    method_of: the method, made from the policy and the grader of its labels. format_changes: what the trained judge
    reads or writes otherwise than the one it was. Raises Collapsed, and NothingToLearn where prompts are too hard.
    """
    run = RunFolder(out)
    run.require_same(settings)
    if (done := solved_judge(run)) is not None:
        return done
    model, judge_format, rule_labels = open_policy(judge)
    try:
        pool = uncertain_prompts(model, prompts, judge_format, settings.pool_confidence)
    except AlreadySolved as solved:
        return write_unchanged(settings, judge, out, str(solved), format_changes)
    grader = LabelGrader(judge_format, rule_labels, label_needs=settings.label_needs)
    source = RolloutSource(
        settings.rollouts, model, tokenize_prompts(model, pool, settings.rollouts.max_new_tokens),
        method_of(model, grader), num_labels=grader.num_labels, stop_token_id=stop_token_id(model),
        seed=settings.fit.seed,
    )  # fmt: skip
    detector = CollapseDetector()
    adapter = add_adapter(model.network, settings.lora, settings.fit.seed)
    reference = (adapter or freeze_reference(model.network)) if settings.loss.kl > 0 else None
    scorer = PolicyScorer(model.network, reference)
    optimizers = make_optimizers(model.network, settings.optimizer, settings.learning_rate, settings.weight_decay)

    run.begin(settings, settings.fit.seed, prompts=len(prompts))

    def watch(record: dict[str, Any]) -> None:
        detector(record)
        if progress:
            progress(record)

    end = fit(scorer, source, optimizers, settings.fit, folder=run, stateful={"detector": detector}, on_update=watch)
    if source.ended:
        mark_solved(run, source.ended, end.updates)
    trained = judge_format.model_copy(update=dict(format_changes or {}))
    return write_judge(model, trained, run.path / "judge", adapter)


def write_unchanged(
    settings: PolicySettings, judge: str, out: str | Path, says: str, format_changes: Mapping[str, Any] | None = None
) -> Path:
    """End a run before its training because its prompts are solved: `out/judge` is the judge that it started with."""
    run = RunFolder(out)
    run.begin(settings, settings.fit.seed)
    mark_solved(run, says)
    model, judge_format, _ = open_policy(judge)
    return write_judge(model, judge_format.model_copy(update=dict(format_changes or {})), run.path / "judge")
