"""`goodrate train retriever_grpo`: an encoder on its own rankings, graded by a judge; recall on dev queries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, create_model

from goodrate.cli.context_input import contexts_of, require_reader
from goodrate.cli.train import Outcome
from goodrate.cli.train_retriever import dev_table, good_items, recalls
from goodrate.cli.training_data import DataSettings, TrainingData, load_data
from goodrate.learning.ranking_source import QueryExample
from goodrate.learning.rewards import Gate
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_grpo
from goodrate.recipes.retriever_rewards import JudgedRelevance, LexicalOverlap, RetrievalGrades
from goodrate.relevance.judge import Judge
from goodrate.relevance.pair_file import item_texts
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.run_folder import RunFolder

QUALITY_LEVELS = 5


class RewardSettings(BaseModel):
    """What a candidate is worth."""

    model_config = ConfigDict(extra="forbid")
    judge: str = Field(description="judge folder that says how relevant a candidate is; train it without test queries")
    worth: Literal["good", "gains"] = Field(
        default="good",
        description="good: the chance of a label that people call good; gains: expected gain over the largest",
    )
    quality: bool = Field(default=False, description="the items' rating in five levels is part of the reward")
    exclusivity: Literal["none", "overlap"] = Field(
        default="none", description="overlap: items that share fewer of the query's rare words are worth more"
    )
    gate: Gate = Field(default="threshold", description="none is the paper's plain sum, which pays for irrelevance")
    scale: float = Field(default=0.2, ge=0, description="of quality and of exclusivity, against relevance in 0..1")


Settings: Any = create_model(
    "Settings", __base__=retriever_grpo.Settings, data=(DataSettings, ...), reward=(RewardSettings, ...)
)


def run(settings: Any, out: Path, progress: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train the encoder on what the judge says of its own top K; measure it, and what it was, on dev queries."""
    recipe = retriever_grpo.Settings.model_validate(settings.model_dump(exclude={"data", "reward"}))
    data = load_data(settings.data)
    judge, encoder = Judge.load(settings.reward.judge), Encoder.load(recipe.encoder)
    require_reader(settings.data.contexts, judge.card.contexts)
    about = [(RunFolder(out / name), getattr(settings, name)) for name in ("data", "reward")]
    for held, told in about:  # no resuming on other data or with other rewards
        held.require_same(told)
    items = dict(zip(data.catalog.ids, data.catalog.text(), strict=True))  # as `goodrate index` encodes them
    queries = examples(data)
    if not queries:
        raise ValueError(f"no training query has a good item; good on this scale: {', '.join(data.scale.positive)}")
    dev = good_items(data.parts["dev"])
    before = recalls(encoder, items, dev)
    with VerdictStore(out / "verdicts.sqlite") as store:
        worth = judge.scale.is_positive.astype(float) if settings.reward.worth == "good" else None
        relevance = judged(judge, store, data, queries, worth)
        levels = quality(data) if settings.reward.quality else None
        texts = [query.text for query in queries]
        overlap = LexicalOverlap(texts, list(items.values())) if settings.reward.exclusivity == "overlap" else None
        for held, told in about:
            held.begin(told, settings.data.split_seed)
        how = {"gate": settings.reward.gate, "scale": settings.reward.scale}
        grade = RetrievalGrades(relevance, levels, overlap, **how)
        folder = retriever_grpo.train(recipe, queries, list(items.values()), grade, out, progress)
    rows = dev_table(folder, items, dev, before, out)
    calls = f"the judge was asked for {relevance.asked:,} pairs and read {relevance.judged:,}; the others were kept"
    return Outcome(folder, rows, (*data.notes, calls))


def examples(data: TrainingData) -> list[QueryExample]:
    """Training queries that have a good item, with all of theirs; the first of the catalogue is the anchor's."""
    place = {item: position for position, item in enumerate(data.catalog.ids)}
    found = good_items(data.parts["train"])
    known = {query: frozenset(place[item] for item in good) for query, good in found.items()}
    return [QueryExample(query, min(good), good) for query, good in known.items()]


def judged(
    judge: Judge, store: VerdictStore, data: TrainingData, queries: list[QueryExample], worth: np.ndarray | None
) -> JudgedRelevance:
    """The judge over the training queries, with the facts and retrieved texts it is used to.

    Raises ValueError for a judge that reads texts where none are named.
    """
    ids = {text: query_id for query_id, text in data.parts["train"].queries().items()}
    texts = [query.text for query in queries]
    found = contexts_of(texts, data.contexts, judge.card.contexts)
    asked = [(text, data.facts.get(ids[text], ""), context.text) for text, context in zip(texts, found, strict=True)]
    return JudgedRelevance(judge, asked, item_texts(data.catalog.frame, judge.card.item_form), store, worth)


def quality(data: TrainingData) -> np.ndarray:
    """Ratings in five levels 0, .25, ..., 1 by rank over the catalogue; an unknown rating is the middle one.

    Raises ValueError when no item has a rating.
    """
    ratings = data.catalog.frame["rating"].to_numpy().astype(float)
    known = ~np.isnan(ratings)
    if not known.any():
        raise ValueError("reward.quality needs ratings; no item of the catalogue has one")
    share = pl.Series(ratings[known]).rank().to_numpy() / (known.sum() + 1)
    levels = np.full(len(ratings), 0.5)
    levels[known] = np.floor(share * QUALITY_LEVELS) / (QUALITY_LEVELS - 1)
    return levels
