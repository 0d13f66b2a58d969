"""DPO of a judge on pairs of its own samples: self-correction, oracle guidance (TaoSR1 stage 2, arXiv 2508.12365)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.optimizers import OptimizerName, make_optimizers
from goodrate.learning.policy import PolicyScorer
from goodrate.learning.preferences import PreferencePair, PreferenceSource, PreferenceTermSettings
from goodrate.learning.reference import freeze_reference
from goodrate.learning.rollout_method import TokenizedPrompt
from goodrate.models.adapter import LoraSettings, add_adapter
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.judge_folder import open_policy, stop_token_id, write_judge
from goodrate.recipes.judge_rollouts import PairSampling, sample_pairs, tokenize_prompts
from goodrate.recipes.label_grader import LabelGrader
from goodrate.recipes.solved import mark_solved, solved_judge
from goodrate.run_folder import RunFolder

WITHOUT_PAIR = ("all_right", "unscored", "declined", "over_share")


class Training(BaseModel):
    """How to train a judge by DPO, whichever judge."""

    model_config = ConfigDict(extra="forbid")
    sampling: PairSampling = Field(default_factory=PairSampling)
    loss: PreferenceTermSettings = Field(default_factory=PreferenceTermSettings)
    optimizer: OptimizerName = Field(default="adamw")
    learning_rate: float = Field(
        default=5e-5, gt=0, allow_inf_nan=False, description="5e-7 to 1e-6 for pretrained models of 0.5B up"
    )
    weight_decay: float = Field(default=0.0, ge=0)
    lora: LoraSettings | None = Field(default=None, description="train an adapter and not all weights; null = all")
    batch_size: int = Field(default=64, gt=0, description="pairs in one update")
    micro_tokens: int = Field(default=4096, gt=0, description="tokens of a micro-batch; memory and speed only")
    epochs: int = Field(default=1, gt=0)
    fit: FitSettings = Field(default_factory=FitSettings)


class Settings(Training):
    """How to train which judge by DPO."""

    judge: str = Field(description="judge folder to start from; it samples the pairs and is the reference")


def train(
    settings: Settings,
    prompts: Sequence[JudgePrompt],
    out: str | Path,
    progress: Callable[[Any], None] | None = None,
) -> Path:
    """Sample pairs, train and write the judge folder `out/judge`; a killed run resumes from `out`.

    A budget of seconds holds for both: what sampling takes, training does not get.
    The completion of a prompt, where one is written, is used where the judge never gets the prompt right.
    Where there is no pair because all samples are right, the judge is written as it was: see solved_notes. Where there
    is none for another reason, ValueError.
    """
    run = RunFolder(out)
    run.require_same(settings)
    if (done := solved_judge(run)) is not None:
        return done
    model, judge_format, rule_labels = open_policy(settings.judge)
    adapter = add_adapter(model.network, settings.lora, settings.fit.seed)
    tokenized = tokenize_prompts(model, prompts, settings.sampling.max_new_tokens)
    run.begin(settings, settings.fit.seed, prompts=len(prompts))
    if not run.stage_done("pairs"):
        _sample(run, settings, model, LabelGrader(judge_format, rule_labels), prompts, tokenized)
    lines = (run.path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [PreferencePair.from_json(line) for line in lines]
    if not pairs:
        mark_solved(run, _solved(run.stage_payload("pairs")))
        return write_judge(model, judge_format, run.path / "judge", adapter)
    source = PreferenceSource(
        pairs, settings.loss, batch_size=settings.batch_size, micro_tokens=settings.micro_tokens,
        seed=settings.fit.seed, epochs=settings.epochs,
    )  # fmt: skip
    scorer = PolicyScorer(model.network, adapter or freeze_reference(model.network))
    optimizers = make_optimizers(model.network, settings.optimizer, settings.learning_rate, settings.weight_decay)
    budget = settings.fit.ending(source.batches_per_epoch * settings.epochs)
    budget = budget.after(run.stage_payload("pairs").get("seconds", 0.0))
    fit(scorer, source, optimizers, budget, folder=run, on_update=progress)
    return write_judge(model, judge_format, run.path / "judge", adapter)


def _sample(
    run: RunFolder, settings: Settings, model: CausalLM, grader: LabelGrader, prompts: Sequence[JudgePrompt],
    tokenized: Sequence[TokenizedPrompt],
) -> None:  # fmt: skip
    """Write the pairs of the judge's own samples, and what became of the prompts."""
    start = time.monotonic()
    stop, written = stop_token_id(model), {p.example_id: p.completion for p in prompts if p.completion is not None}
    oracle = {name: (*model.encode(completion), stop) for name, completion in written.items()}
    pairs, counts, tally = sample_pairs(model, grader, tokenized, oracle, settings.sampling, settings.fit.seed)
    run.write("pairs.jsonl", "".join(f"{pair.to_json()}\n" for pair in pairs))
    solved = {"solved": tally.says()} if tally.solved else {}
    run.mark_done("pairs", {**counts, **solved, "seconds": time.monotonic() - start})


def _solved(found: Mapping[str, Any]) -> str:
    """What is said of prompts that are right in every sample. ValueError where there is no pair for another reason."""
    if "solved" in found:
        return str(found["solved"])
    counts = ", ".join(f"{found[kind]} {kind}" for kind in WITHOUT_PAIR if found.get(kind))
    raise ValueError(
        f"no preference pairs: {counts}. A pair needs a right and a wrong sample of one prompt, or a written "
        "completion (declined: there is none; over_share: beyond sampling.max_oracle_share). Raise sampling.samples or "
        "sampling.temperature, or start from a judge that was trained longer; in a new run folder"
    )
