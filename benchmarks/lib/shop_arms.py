"""Arms on the embedded shop that several experiments have: what a judge is trained on, SFT, DPO, GRPO."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from goodrate.examples.judge_prompts import judge_prompts
from goodrate.examples.prompts import JudgePrompt
from goodrate.examples.shop_pairs import ShopPairs, sample_shop_pairs
from goodrate.learning.fit import FitSettings
from goodrate.learning.policy_terms import PolicyTermSettings
from goodrate.learning.preferences import PreferenceTermSettings
from goodrate.learning.rollout_source import RolloutSettings
from goodrate.models.causal_lm import CausalLM
from goodrate.models.nano import nano_folder
from goodrate.recipes import judge_dpo, judge_grpo, judge_sft
from goodrate.recipes.judge_rollouts import PairSampling
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.pairs import JudgedPair
from goodrate.run_folder import RunFolder
from goodrate.shop.shop import Shop, ShopSettings
from lib.judging import SAMPLED, judge_measures
from lib.queue import Queue, settings_key
from lib.shop_data import shop_of, training_parts
from lib.statistics import MacroF1

TEST_PAIRS = 4000
NANO = Path("nano")


class ArmSettings(BaseModel):
    """All that decides the numbers of an arm."""

    model_config = ConfigDict(extra="forbid")
    shop: ShopSettings = ShopSettings(items=5000, queries=2000)
    rationales: int = 300
    labels: int = 12000
    sft_seconds: float = 100.0
    stage_seconds: float = 400.0
    sft_rate: float = 1e-3
    continued_rate: float = 3e-4
    dpo_prompts: int = 3000
    dpo_optimizer: Literal["adamw", "muon"] = "muon"
    dpo_rate: float = 3e-4
    dpo_nll: float = 0.0
    grpo_optimizer: Literal["adamw", "muon"] = "muon"
    grpo_rate: float = 1e-3
    grpo_kl: float = 0.02
    reduction: Literal["sequence_mean", "token_mean"] = "sequence_mean"
    rollouts: RolloutSettings = RolloutSettings(screening=2, oversampling=3.0)
    pool_confidence: float = 1.0
    max_new_tokens: int = 96
    rules: int | None = None  # retrieved rules in every prompt
    sft_updates: int | None = None  # in place of sft_seconds, for machines that others use, too
    stage_updates: int | None = None  # in place of stage_seconds


@dataclass(frozen=True)
class Run:
    """What the stages of one (settings, order, seed) work on."""

    settings: Any  # ArmSettings or an experiment's extension of them
    order: str
    seed: int
    shop: Shop
    reasoned: list[JudgedPair]
    labelled: list[JudgedPair]
    work: Path

    @property
    def form(self) -> JudgeFormat:
        """What this order's judge reads and writes."""
        s, book = self.settings, self.shop.book.hash
        form = {"order": self.order, "rule_book_hash": book, "max_new_tokens": s.max_new_tokens, "rules": s.rules or 0}
        return JudgeFormat.model_validate(form)

    @property
    def stage(self) -> FitSettings:
        """The budget of a stage after SFT."""
        return FitSettings(**budget(self.settings.stage_updates, self.settings.stage_seconds), seed=self.seed)

    def prompts(self, pairs: Sequence[JudgedPair], **options: Any) -> list[JudgePrompt]:
        """The library's prompts of the pairs; with their reasons as completions where the pairs have some."""
        return judge_prompts(base_model(), pairs, self.form, **options)[0]

    def label_prompts(self, pairs: Sequence[JudgedPair], **options: Any) -> list[JudgePrompt]:
        """Prompts of pairs of which nothing but the label is known."""
        return self.prompts([replace(pair, reason=None) for pair in pairs], **options)

    def label_answers(self, pairs: Sequence[JudgedPair]) -> list[JudgePrompt]:
        """The same with the label alone as completion, for SFT."""
        return self.label_prompts(pairs, label_completions=True)


@functools.cache
def base_model() -> CausalLM:
    """The shipped base, whose tokens say how long a prompt is."""
    return CausalLM.load(nano_folder())


def run_of(queue: Queue, settings: ArmSettings, order: str, seed: int) -> Run:
    """The run's data: which pairs bring reasons and which bring labels is drawn with the seed."""
    shop = shop_of(settings.shop)
    reasoned, labelled = training_parts(shop, seed, settings.rationales, settings.labels)
    return Run(settings, order, seed, shop, reasoned, labelled, queue.work / f"{settings_key(settings)}-{seed}")


def budget(updates: int | None, seconds: float) -> dict[str, Any]:
    """For FitSettings: updates where they are given, else seconds."""
    return {"updates": updates} if updates else {"seconds": seconds}


def sft(run: Run, model: Path, prompts: list[JudgePrompt], out: Path, seconds: float, rate: float,
        updates: int | None = None, form: JudgeFormat | None = None) -> Path:  # fmt: skip
    """Supervised training, with the optimizer and batch of the demo."""
    recipe = judge_sft.Settings(
        model=str(model), format=form or run.form, optimizer="muon", learning_rate=rate, batch_size=32,
        micro_tokens=4096, label_weight=8.0, epochs=1000, fit=FitSettings(**budget(updates, seconds), seed=run.seed),
    )  # fmt: skip
    return judge_sft.train(recipe, prompts, out)


def label_form(run: Run) -> JudgeFormat:
    """The form of a judge that answers nothing but the label."""
    return run.form.model_copy(update={"order": "label_first"})


def dpo(run: Run, out: Path, judge: Path) -> Path:
    """Pass@N DPO from a judge; its seconds are those of sampling and training together.

    Two epochs: on dev 2, 4 and 8 had macro-F1 0.854, 0.842 and 0.829; 4 and 8 with nll 0.2 had 0.844 and 0.835.
    """
    s, prompts = run.settings, run.label_prompts(run.labelled[: run.settings.dpo_prompts])
    recipe = judge_dpo.Settings(
        judge=str(judge), optimizer=s.dpo_optimizer, learning_rate=s.dpo_rate, batch_size=64, epochs=2,
        sampling=PairSampling(max_new_tokens=s.max_new_tokens), loss=PreferenceTermSettings(nll=s.dpo_nll),
        fit=run.stage,
    )  # fmt: skip
    return judge_dpo.train(recipe, prompts, out)


def grpo(run: Run, out: Path, judge: Path) -> Path:
    """GRPO on the labels from a judge."""
    confidence = run.settings.pool_confidence if run.order == "label_first" else 1.0
    recipe = judge_grpo.Settings(**grpo_settings(run, judge), pool_confidence=confidence)
    return judge_grpo.train(recipe, run.label_prompts(run.labelled), out)


def grpo_settings(run: Run, judge: Path) -> dict[str, Any]:
    """What every arm that trains on rollouts has."""
    s = run.settings
    return {
        "judge": str(judge), "optimizer": s.grpo_optimizer, "learning_rate": s.grpo_rate,
        "loss": PolicyTermSettings(kl=s.grpo_kl, reduction=s.reduction), "rollouts": s.rollouts, "fit": run.stage,
    }  # fmt: skip


def trace(folder: Path) -> dict[str, float]:
    """Updates of a training run, and the means of what it logged."""
    records = RunFolder(folder).metrics()
    names = ("label_cv", "share_kept", "share_screened", "sampled_groups", "groups", "kl", "length", "inconsistent")
    return {"updates": float(records[-1]["update"]) if records else 0.0, **logged_means(records, names)}


def logged_means(records: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, float]:
    """The mean of each name over the records that have it, without NaN; absent where none has."""
    known = {name: [r[name] for r in records if name in r and r[name] == r[name]] for name in names}
    return {name: float(np.mean(values)) for name, values in known.items() if values}


def measured(run: Run, test: ShopPairs, folder: Path) -> dict[str, Any]:
    """All measures of a judge folder on the test pairs."""
    return judge_measures(run.shop, test, folder, run.label_prompts(test.pairs[:SAMPLED]), run.seed)


def macro_f1_of(settings: ArmSettings, pairs: int = TEST_PAIRS, tail: bool = False) -> MacroF1:
    """Comparisons of arms on the test pairs; tail: only those of tail queries count."""
    shop = shop_of(settings.shop)
    test = sample_shop_pairs(shop, "test", pairs, seed=0)
    counted = np.asarray([shop.queries[q].tail for q in test.queries.tolist()]) if tail else None
    return MacroF1(test.gold, test.queries, counted)
