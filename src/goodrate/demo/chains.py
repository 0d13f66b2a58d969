"""The demo's two learning chains: an encoder on its own rankings, a judge on its own completions."""

from __future__ import annotations

from pathlib import Path

from goodrate.api.training import Progress, run
from goodrate.demo.settings import LearningSettings
from goodrate.demo.stages import sft_settings, training_data
from goodrate.learning.fit import FitSettings
from goodrate.learning.policy_terms import PolicyTermSettings
from goodrate.learning.ranking_source import RankingSettings
from goodrate.learning.ranking_terms import RankingTermSettings
from goodrate.learning.rollout_source import RolloutSettings
from goodrate.recipes import judge_grpo
from goodrate.recipes.retriever_runs import GrpoSettings, RewardSettings
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.shop.shop import Shop

REASON_TOKENS = 96


def train_retriever(
    settings: LearningSettings, shop: Shop, encoder: Path, judge: Path, out: Path, progress: Progress
) -> Path:
    """retriever_grpo from the contrastive encoder, graded by the judge. Returns the encoder's folder."""
    recipe = GrpoSettings(
        encoder=str(encoder), learning_rate=5e-4, reward=RewardSettings(judge=str(judge)),
        rankings=RankingSettings(queries=16, candidates=settings.candidates, pool="part", refresh_items=128),
        loss=RankingTermSettings(objective=settings.retriever_objective),
        fit=FitSettings(updates=settings.retriever_updates, seed=settings.seed),
    )  # fmt: skip
    return run("retriever_grpo", recipe, training_data(shop, settings.seed), out, progress).folder


def train_sft(settings: LearningSettings, shop: Shop, out: Path, progress: Progress) -> Path:
    """TaoSR1 stage 1: SFT on few written reasons.

    The chain's judge reasons before it labels: so it needs few of them (docs/experiments.md).
    """
    form = JudgeFormat(order="reason_first", rule_book_hash=shop.book.hash, max_new_tokens=REASON_TOKENS)
    fit = FitSettings(updates=settings.sft_updates, seed=settings.seed)
    data = training_data(shop, settings.seed, take=settings.rationales)
    return run("judge_sft", sft_settings(form, fit, epochs=1000), data, out, progress).folder


def train_grpo(settings: LearningSettings, shop: Shop, judge: Path, out: Path, progress: Progress) -> Path:
    """TaoSR1 stage 3: GRPO on the labels of other pairs, which earn nothing unless they follow from their steps."""
    recipe = judge_grpo.Settings(
        judge=str(judge), optimizer="muon", learning_rate=1e-3, loss=PolicyTermSettings(kl=0.02),
        label_needs="derived", rollouts=RolloutSettings(screening=2, oversampling=3.0, max_new_tokens=REASON_TOKENS),
        fit=FitSettings(updates=settings.grpo_updates, seed=settings.seed),
    )  # fmt: skip
    data = training_data(shop, settings.seed, settings.rationales, settings.labels)
    return run("judge_grpo", recipe, data, out, progress).folder
