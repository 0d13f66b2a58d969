"""The demo's two learning chains: an encoder on its own rankings, a judge on its own completions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goodrate.demo import stages
from goodrate.demo.settings import LearningSettings
from goodrate.demo.stages import Progress
from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.fit import FitSettings
from goodrate.learning.policy_terms import PolicyTermSettings
from goodrate.learning.ranking_source import QueryExample, RankingSettings
from goodrate.learning.ranking_terms import RankingTermSettings
from goodrate.learning.rollout_source import RolloutSettings
from goodrate.recipes import judge_grpo, judge_sft, retriever_grpo
from goodrate.recipes.judge_folder import JudgeFormat
from goodrate.recipes.retriever_rewards import JudgedRelevance, RetrievalGrades
from goodrate.relevance.judge import Judge
from goodrate.relevance.listing import listing
from goodrate.relevance.prompts import judge_prompt
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.shop.shop import Shop

REASON_TOKENS = 96


def query_examples(shop: Shop) -> tuple[list[QueryExample], list[tuple[str, str]]]:
    """Training queries that were clicked for, and (text, facts) of each; the most clicked item is the positive."""
    place = {item: position for position, item in enumerate(shop.catalog.ids)}
    pairs, known = stages.click_pairs(shop)
    facts = {query.text: query.facts for query in shop.queries}
    best: dict[str, tuple[float, str]] = {}
    for pair in pairs:
        best[pair.query] = max(best.get(pair.query, (0.0, "")), (pair.weight, pair.item_id))
    examples = [QueryExample(q, place[item], frozenset(place[i] for i in known[q])) for q, (_, item) in best.items()]
    return examples, [(example.text, facts[example.text]) for example in examples]


def train_retriever(
    settings: LearningSettings, shop: Shop, encoder: Path, judge: Path, out: Path, progress: Progress
) -> dict[str, Any]:
    """retriever_grpo from the contrastive encoder, graded by the judge. Returns updates and calls of the judge."""
    examples, asked = query_examples(shop)
    recipe = retriever_grpo.Settings(
        encoder=str(encoder), learning_rate=5e-4,
        rankings=RankingSettings(queries=16, candidates=settings.candidates, pool="part", refresh_items=128),
        loss=RankingTermSettings(objective=settings.retriever_objective),
        fit=_fit(settings, settings.retriever_updates, settings.retriever_seconds),
    )  # fmt: skip
    updates = 0

    def count(record: dict[str, Any]) -> None:
        nonlocal updates
        updates = record["update"]
        progress(record)

    listings = [listing(record) for record in shop.records]
    with VerdictStore(out / "verdicts.sqlite") as store:
        good = shop.book.scale.is_positive.astype(float).tolist()
        relevance = JudgedRelevance(Judge.load(judge), asked, listings, store, worth=good)
        grade = RetrievalGrades(relevance)
        retriever_grpo.train(recipe, examples, shop.catalog.text(), grade, out, count)
    return {"retriever_updates": updates, "judge_asked": relevance.asked, "judge_read": relevance.judged}


def reason_first(shop: Shop) -> JudgeFormat:
    """The chain's judge reasons before it labels: so it needs few written reasons (docs/experiments.md)."""
    return JudgeFormat(order="reason_first", rule_book_hash=shop.book.hash, max_new_tokens=REASON_TOKENS)


def train_sft(settings: LearningSettings, shop: Shop, out: Path, progress: Progress) -> Path:
    """TaoSR1 stage 1: SFT on few written reasons."""
    form, fit = reason_first(shop), _fit(settings, settings.sft_updates, settings.sft_seconds)
    pairs = stages.training_pairs(shop, settings.seed, 0, settings.rationales)
    return judge_sft.train(stages.sft_recipe(form, fit, epochs=1000), pairs.examples(shop, form), out, progress)


def train_grpo(settings: LearningSettings, shop: Shop, judge: Path, out: Path, progress: Progress) -> Path:
    """TaoSR1 stage 3: GRPO on the labels of other pairs, which earn nothing unless they follow from their steps."""
    pairs = stages.training_pairs(shop, settings.seed, settings.rationales, settings.labels)
    template = reason_first(shop).template
    prompts = [
        JudgePrompt(str(n), *judge_prompt(pair.query, pair.item_text, pair.facts, template=template), label)
        for n, (pair, label) in enumerate(zip(pairs.pairs, pairs.gold.tolist(), strict=True))
    ]
    recipe = judge_grpo.Settings(
        judge=str(judge), optimizer="muon", learning_rate=1e-3, loss=PolicyTermSettings(kl=0.02),
        label_needs="derived", rollouts=RolloutSettings(screening=2, oversampling=3.0, max_new_tokens=REASON_TOKENS),
        fit=_fit(settings, settings.grpo_updates, settings.grpo_seconds),
    )  # fmt: skip
    return judge_grpo.train(recipe, prompts, out, progress)


def _fit(settings: LearningSettings, updates: int | None, seconds: float) -> FitSettings:
    return FitSettings(**stages.budget(updates, seconds), seed=settings.seed)
