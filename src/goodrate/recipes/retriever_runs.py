"""How the recipes of a retriever are run on training data: pairs or queries before, recall on dev queries after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from goodrate.catalog.judgements import Judgements
from goodrate.catalog.rendering import render_items
from goodrate.examples.contexts import query_contexts, require_text_reading
from goodrate.examples.data import TrainingData
from goodrate.learning.contrastive import Pair
from goodrate.learning.item_matrix import top_k
from goodrate.learning.ranking_source import QueryExample
from goodrate.learning.rewards import Gate
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_contrastive, retriever_grpo
from goodrate.recipes.registry import Progress, Recipe, TrainingResult, require_same_data, write_rows
from goodrate.recipes.retriever_rewards import JudgedRelevance, LexicalOverlap, RetrievalGrades
from goodrate.relevance.judge import CalibratedJudge, open_judge
from goodrate.relevance.query_notes import QueryNotes
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.run_folder import RunFolder

DEPTHS = (10, 50)
QUALITY_LEVELS = 5


class ContrastiveSettings(retriever_contrastive.Settings):
    """The recipe's settings, and what a pair to learn from is."""

    pairs: Literal["judgements", "clicks", "both"] = Field(
        default="judgements", description="good pairs of the training part, what shoppers clicked, or both"
    )


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


class GrpoSettings(retriever_grpo.Settings):
    """The recipe's settings, and the reward."""

    reward: RewardSettings


def run_contrastive(settings: ContrastiveSettings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train an encoder on the good pairs of the training part; measure it, and what it started from, on dev queries."""
    recipe = retriever_contrastive.Settings.model_validate(settings.model_dump(exclude={"pairs"}))
    items = item_lines(data, recipe.fields)
    pairs, positives = positive_pairs(data, settings.pairs)
    dev = good_items(data.parts["dev"])
    encoder = Encoder.load(recipe.encoder)
    retriever_contrastive.require_dimensions(recipe, encoder)
    folder = require_same_data(out, data)
    before = recalls(encoder, items, dev)
    folder.begin(data.choice, data.choice.split_seed)  # last: what cannot start binds no folder to its data
    trained = retriever_contrastive.train(
        recipe, pairs, items, out, positives=positives, encoder=encoder, progress=progress
    )
    return TrainingResult(trained, recall_table(trained, items, dev, before, out), data.notes)


def run_grpo(settings: GrpoSettings, data: TrainingData, out: Path, progress: Progress) -> TrainingResult:
    """Train the encoder on what the judge says of its own top K; measure it, and what it was, on dev queries."""
    recipe = retriever_grpo.Settings.model_validate(settings.model_dump(exclude={"reward"}))
    judge, encoder = open_judge(settings.reward.judge), Encoder.load(recipe.encoder)
    require_text_reading(data.named_contexts, judge.contexts)
    remembered = [(require_same_data(out, data), data.choice), (RunFolder(out / "reward"), settings.reward)]
    remembered[1][0].require_same(settings.reward)  # no resuming on other data or with other rewards
    items, queries = item_lines(data, recipe.fields), query_examples(data)
    if not queries:
        raise ValueError(f"no training query has a good item; good on this scale: {', '.join(data.scale.positive)}")
    dev = good_items(data.parts["dev"])
    before = recalls(encoder, items, dev)
    with VerdictStore(out / "verdicts.sqlite") as store:
        relevance = judged_relevance(judge, store, data, [query.text for query in queries], settings.reward)
        grade = RetrievalGrades(
            relevance,
            quality_levels(data) if settings.reward.quality else None,
            _exclusivity(settings.reward, queries, items),
            gate=settings.reward.gate, scale=settings.reward.scale,
        )  # fmt: skip
        for folder, chosen in remembered:
            folder.begin(chosen, data.choice.split_seed)
        trained = retriever_grpo.train(recipe, queries, list(items.values()), grade, out, progress)
    rows = recall_table(trained, items, dev, before, out)
    calls = f"the judge was asked for {relevance.asked:,} pairs and read {relevance.judged:,}; the others were stored"
    return TrainingResult(trained, rows, (*data.notes, calls))


def item_lines(data: TrainingData, fields: Sequence[str]) -> dict[str, str]:
    """These fields of every item as one line by id, as an index with the trained encoder encodes it."""
    return dict(zip(data.catalog.ids, render_items(data.catalog.frame, fields), strict=True))


def positive_pairs(data: TrainingData, kind: str) -> tuple[list[Pair], dict[str, set[str]]]:
    """Training pairs, and every query's items that are good or were clicked: none of them is its negative.

    A judged pair weighs 1; a clicked one its clicks over the mean, so that both kinds weigh alike. ValueError without
    any pair.
    """
    good = good_items(data.parts["train"])
    judged = [Pair(query, item) for query, items in good.items() for item in sorted(items)]
    if kind == "judgements":
        if not judged:
            raise ValueError(f"no training pair has a good label; good on this scale: {', '.join(data.scale.positive)}")
        return judged, good
    if data.clicks is None:
        raise ValueError(f"pairs = {kind!r} needs data.behaviour, a file of clicks")
    mean = sum(weight for _, _, weight in data.clicks) / len(data.clicks)
    clicked = [Pair(query, item, weight / mean) for query, item, weight in data.clicks]
    for pair in clicked:
        good.setdefault(pair.query, set()).add(pair.item_id)
    return [*(judged if kind == "both" else []), *clicked], good


def query_examples(data: TrainingData) -> list[QueryExample]:
    """Training queries that have a good item, with all of theirs; the first of the catalogue is the anchor's."""
    place = {item: position for position, item in enumerate(data.catalog.ids)}
    good = {query: frozenset(place[i] for i in ids) for query, ids in good_items(data.parts["train"]).items()}
    return [QueryExample(query, min(items), items) for query, items in good.items()]


def judged_relevance(
    judge: CalibratedJudge, store: VerdictStore, data: TrainingData, queries: list[str], reward: RewardSettings
) -> JudgedRelevance:
    """The judge over the training queries, with the facts and retrieved texts it is used to.

    Raises ValueError for a judge that reads texts where none are named.
    """
    worth = judge.scale.is_positive.astype(float) if reward.worth == "good" else None
    noted = replace(judge, notes=query_notes(data, queries, judge.contexts), store=store)
    return JudgedRelevance(noted, queries, list(data.rows.values()), worth)


def query_notes(data: TrainingData, queries: list[str], contexts: int) -> QueryNotes:
    """What the data know of training queries: facts, and as many retrieved texts."""
    ids = {text: query_id for query_id, text in data.parts["train"].queries().items()}
    texts = [context.text for context in query_contexts(queries, data.contexts, contexts)]
    facts = {query: data.facts.get(ids[query], "") for query in queries}
    return QueryNotes.from_mappings(facts, dict(zip(queries, texts, strict=True)))


def quality_levels(data: TrainingData) -> np.ndarray:
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


def _exclusivity(
    reward: RewardSettings, queries: list[QueryExample], items: Mapping[str, str]
) -> LexicalOverlap | None:
    if reward.exclusivity == "none":
        return None
    return LexicalOverlap([query.text for query in queries], list(items.values()))


def recall_table(
    folder: Path, items: Mapping[str, str], dev: Mapping[str, AbstractSet[str]], before: dict[str, float], out: Path
) -> dict[str, dict[str, float]]:
    """Recall of the trained encoder, of what it was and of chance; kept as dev.json in the run folder `out`."""
    chance = {f"recall@{k}": min(k / len(items), 1.0) for k in DEPTHS} | {"queries": float(len(dev))}
    rows = {"trained": recalls(Encoder.load(folder), items, dev), "before": before, "random order": chance}
    write_rows(out, rows)
    return rows


def good_items(judgements: Judgements) -> dict[str, set[str]]:
    """Query text -> ids of its items with a positive label; queries without one are left out."""
    good: dict[str, set[str]] = {}
    positive = judgements.scale.is_positive[judgements.label_indices()]
    for (query, item), is_good in zip(judgements.frame.select("query", "item_id").iter_rows(), positive, strict=True):
        if is_good:
            good.setdefault(query, set()).add(item)
    return good


def recalls(encoder: Encoder, items: Mapping[str, str], good: Mapping[str, AbstractSet[str]]) -> dict[str, float]:
    """Mean over queries of the share of known good items among the first k of the whole catalogue, exact search."""
    if not good:
        raise ValueError("no dev query has a good item")
    ids = np.asarray(sorted(items))  # ties go by id
    vectors = encoder.encode_items([items[item] for item in ids])
    order = top_k(encoder.encode_queries(list(good)), vectors, max(DEPTHS))
    hits = [np.isin(ids[row], list(wanted)) for row, wanted in zip(order, good.values(), strict=True)]
    return {
        f"recall@{k}": float(np.mean([hit[:k].sum() / len(w) for hit, w in zip(hits, good.values(), strict=True)]))
        for k in DEPTHS
    } | {"queries": float(len(good))}


RETRIEVER_CONTRASTIVE = Recipe(ContrastiveSettings, run_contrastive)
RETRIEVER_GRPO = Recipe(GrpoSettings, run_grpo)
