"""Retrieval-GRPO on a real catalogue (Chorus) from MiniLM: does learning from one's own top K beat what it starts from?

python benchmarks/retrieval_chorus.py run --seeds 0,1,2 --threads 1   one JSON per (arm, seed), results/retrieval_chorus
python benchmarks/retrieval_chorus.py table --write                   benchmarks/results/retrieval_chorus.md

A seed is a split of the human queries by group (train 45, dev 9, test 36), a judge and the order of training. Training
queries are made of the catalogue's titles, brands and colours, and the 45 human ones; none is alike a test query. The
judge is MiniLM as a cross-encoder on the human labels of the training queries and on silver pairs. The catalogue is all
judged items and others drawn at random. Needs the Chorus data; results hold numbers only.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from goodrate.catalog.rendering import render_items
from goodrate.catalog.splits import query_groups
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.report import numbers
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.learning.fit import FitSettings
from goodrate.learning.item_matrix import top_k
from goodrate.learning.ranking_source import QueryExample, RankingSettings
from goodrate.learning.ranking_terms import RankingTermSettings
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_contrastive, retriever_grpo
from goodrate.recipes.retriever_rewards import JudgedRelevance, RetrievalGrades
from goodrate.scale import GRADED_0_3 as SCALE
from lib import chorus_arms
from lib.chorus_arms import TEXT_FIELDS, Chorus, Run, Score, as_run, minilm_folder, movable
from lib.judging import TextJudge
from lib.queue import Job, Queue, Results, experiment
from lib.statistics import shared_seeds
from lib.tables import add_table, markdown, mean, shown

QUEUE = Queue("retrieval_chorus")
ARMS: dict[str, dict[str, Any]] = {
    "zero-shot": {},
    "judge": {},
    "contrastive": {},
    "grpo": {},
    "grpo_KL_3": {"kl": 3.0, "anchor": 1.0},
}
COLOURS = ("product_colour", "colour")


class Settings(BaseModel):
    """All that decides the numbers of an arm."""

    model_config = ConfigDict(extra="forbid")
    item_chars: int = 120
    others: int = 500
    catalogue_queries: int = 400
    silver: int = 600
    judge_epochs: int = 2
    judge_rate: float = 1e-4
    updates: int = 30
    contrastive_rate: float = 5e-5
    contrastive_batch: int = 32
    grpo_rate: float = 5e-5
    queries: int = 16
    candidates: int = 8
    inner_steps: int = 1
    kl: float = 0.05
    anchor: float = 0.1


@dataclass(frozen=True)
class Ground:
    """A split, its catalogue (ids and texts in one order) and the training queries with the items known to answer."""

    chorus: Chorus
    ids: list[str]
    texts: list[str]
    examples: list[QueryExample]


@functools.cache
def ground(seed: int, settings: str) -> Ground:
    """The data of a split. settings: as JSON."""
    s = Settings.model_validate_json(settings)
    chorus = chorus_arms.load(seed, s.item_chars)
    rest = np.asarray(sorted(set(chorus.catalog.ids) - chorus.texts.keys()))
    ids = [*chorus.texts, *np.random.default_rng(0).permutation(rest)[: s.others].tolist()]
    frame = chorus.catalog.rows(ids)
    texts = render_items(frame, fields=TEXT_FIELDS, max_chars=s.item_chars)
    place = {item: position for position, item in enumerate(ids)}
    good: dict[str, set[int]] = {}
    for query, item, label in chorus.rows("train"):
        if SCALE.is_positive[label]:
            good.setdefault(query, set()).add(place[item])
    human = [QueryExample(query, min(items), frozenset(items)) for query, items in good.items()]
    held_out = [*chorus.parts["test"].queries(), *chorus.parts["dev"].queries()]
    generated = catalogue_queries(frame, texts, held_out, s.catalogue_queries, seed)
    return Ground(chorus, ids, texts, [*human, *generated])


def catalogue_queries(frame: Any, texts: list[str], held_out: list[str], count: int, seed: int) -> list[QueryExample]:
    """Queries out of an item: words of its title, its brand with one, its colour with one. Known: items with all words.

    None is in the group of a held-out query (goodrate.catalog.splits).
    """
    rng, lower = np.random.default_rng([seed, 7]), [text.lower() for text in texts]
    titles, brands, attributes = (frame[name].to_list() for name in ("title", "brand", "attributes"))
    source: dict[str, int] = {}  # query -> its item
    while len(source) < 2 * count:
        own = int(rng.integers(len(texts)))
        words = re.findall(r"[A-Za-z]{4,}", titles[own])
        if not words:
            continue
        start, kind = int(rng.integers(len(words))), int(rng.integers(3))
        own_attributes = json.loads(attributes[own])
        colour = next((str(own_attributes[name]) for name in COLOURS if name in own_attributes), "")
        first = ["", brands[own] or "", colour][kind]
        many = int(rng.integers(1, 3)) if not first else 1
        source.setdefault(" ".join([first, *words[start : start + many]]).strip().lower(), own)
    queries = [*held_out, *source]
    group = query_groups(queries)
    closed = set(group[: len(held_out)])
    examples = []
    for query, number in zip(queries[len(held_out) :], group[len(held_out) :], strict=True):
        if number not in closed and len(examples) < count:
            has = [place for place, text in enumerate(lower) if all(word in text for word in query.split())]
            examples.append(QueryExample(query, source[query], frozenset([source[query], *has])))
    return examples


@functools.cache
def judge(seed: int, settings: str) -> Score:
    """The judge of a split: human labels of its training queries, and silver pairs of items that nobody judged."""
    s, chorus = Settings.model_validate_json(settings), ground(seed, settings).chorus
    pairs = [*chorus.labelled("train"), *chorus_arms.silver_pairs(chorus, s.silver, seed)]
    return chorus_arms.train_cross_encoder(
        pairs, len(SCALE), seed, epochs=s.judge_epochs, learning_rate=s.judge_rate, batch_size=32, max_tokens=64,
        precision="auto",
    )  # fmt: skip


def contrastive(s: Settings, seed: int, out: Path) -> Path:
    """InfoNCE from MiniLM on the training queries with the items known to answer them."""
    g = ground(seed, s.model_dump_json())
    pairs = [
        retriever_contrastive.Pair(example.text, g.ids[item], 1 / min(len(example.known), 10))
        for example in g.examples
        for item in sorted(example.known, key=lambda item: (item != example.positive, item))[:10]
    ]
    positives = {example.text: {g.ids[item] for item in example.known} for example in g.examples}
    recipe = retriever_contrastive.Settings(
        encoder=str(minilm_folder()), learning_rate=s.contrastive_rate, batch_size=s.contrastive_batch,
        random_negatives=32, epochs=1000, fit=FitSettings(updates=s.updates, seed=seed),
    )  # fmt: skip
    items = dict(zip(g.ids, g.texts, strict=True))
    return retriever_contrastive.train(recipe, pairs, items, out, positives=positives, progress=print_record)


def reinforced(s: Settings, seed: int, start: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    """retriever_grpo from an encoder, and what it cost."""
    g, score = ground(seed, s.model_dump_json()), judge(seed, s.model_dump_json())
    relevance = JudgedRelevance(TextJudge(SCALE, score), [(e.text, "") for e in g.examples], g.texts)  # type: ignore[arg-type]
    recipe = retriever_grpo.Settings(
        encoder=str(start), learning_rate=s.grpo_rate,
        rankings=RankingSettings(
            queries=s.queries, candidates=s.candidates, refresh_items=128, random_items=16, inner_steps=s.inner_steps
        ),
        loss=RankingTermSettings(kl=s.kl, anchor=s.anchor), fit=FitSettings(updates=s.updates, seed=seed),
    )  # fmt: skip
    records: list[dict[str, Any]] = []

    def log(record: dict[str, Any]) -> None:
        records.append(record)
        print_record(record)

    folder = retriever_grpo.train(recipe, g.examples, g.texts, RetrievalGrades(relevance), out, log)
    curves = {name: [round(r[name], 4) for r in records if name in r] for name in ("reward", "kl", "share_kept")}
    return folder, {"asked": relevance.asked, "judged": relevance.judged, **curves}


def print_record(record: dict[str, Any]) -> None:
    """A line of progress."""
    if record["update"] % 10 == 0:
        print({k: round(v, 3) for k, v in record.items() if isinstance(v, float)}, flush=True)


def measure(job: Job) -> dict[str, Any]:
    """Train and measure an arm."""
    s = job.settings
    assert isinstance(s, Settings)
    g, out, start = ground(job.seed, s.model_dump_json()), QUEUE.work_folder(job), minilm_folder()
    if job.arm == "judge":
        return measured_judge(g, judge(job.seed, s.model_dump_json()))
    if job.arm.startswith("contrastive"):
        start = contrastive(s, job.seed, QUEUE.work_folder(Job("contrastive", job.seed, s)))
    cost: dict[str, Any] = {}
    began = time.perf_counter()
    if "grpo" in job.arm:
        judge(job.seed, s.model_dump_json())
        seconds = round(time.perf_counter() - began, 1)
        start, spent = reinforced(s, job.seed, start, out)
        cost = {"judge_seconds": seconds, **spent}
    return {"cost": cost, **measured(g, Encoder.load(start, precision="auto"))}


def measured(g: Ground, encoder: Encoder) -> dict[str, Any]:
    """nDCG@10 of the judged lists by cosine; Goodrate@10 and the judged share of a search of the whole catalogue."""
    part = g.chorus.parts["test"]
    queries, vectors = list(part.queries()), encoder.encode_items(g.texts)
    query_vectors = encoder.encode_queries(queries)
    place = {item: position for position, item in enumerate(g.ids)}
    cosine = {query: row @ vectors.T for query, row in zip(queries, query_vectors, strict=True)}
    lists = {q: [(i, float(cosine[q][place[i]])) for i in items] for q, items in movable(part).items()}
    ranked = zip(queries, top_k(query_vectors, vectors, 10).tolist(), strict=True)
    run = {q: [(g.ids[i], -float(n)) for n, i in enumerate(row)] for q, row in ranked}
    by_query = {"ndcg@10": _values(lists, movable(part), "ndcg@10", True)}
    by_query |= {name: _values(run, part.qrels(), name, False) for name in ("goodrate@10", "judged@10")}
    return {"by_query": by_query, "means": {name: _mean(v) for name, v in by_query.items()}}


def measured_judge(g: Ground, score: Score) -> dict[str, Any]:
    """nDCG@10 of the judged lists in the judge's order: what the reward knows."""
    qrels = movable(g.chorus.parts["test"])
    pairs = [(query, item) for query, items in qrels.items() for item in items]
    gains = SCALE.expected_gain(score([(query, g.chorus.texts[item]) for query, item in pairs]))
    values = _values(as_run(pairs, gains), qrels, "ndcg@10", True)
    return {"cost": {}, "by_query": {"ndcg@10": values}, "means": {"ndcg@10": _mean(values)}}


def _values(run: Run, qrels: Any, metric: str, judged_only: bool) -> dict[str, float | None]:
    """A hash of the query, not its text -> value; None where the metric is not defined."""
    table = evaluate_run(run, qrels, SCALE, [metric], judged_only=judged_only)
    names = [hashlib.sha256(query.encode()).hexdigest()[:12] for query in table["query_id"]]
    values = [None if value != value else round(value, 6) for value in numbers(table, metric).tolist()]
    return dict(zip(names, values, strict=True))


def _mean(values: dict[str, float | None]) -> float:
    return float(np.mean([value for value in values.values() if value is not None]))


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)


def by_query(results: Results, metric: str) -> dict[str, float]:
    """A metric of each query, its mean over the splits that test it; NaN where one is unknown."""
    values: dict[str, list[float]] = {}
    for result in results:
        for query, value in result["by_query"].get(metric, {}).items():
            values.setdefault(query, []).append(float("nan") if value is None else value)
    return {query: float(np.mean(one)) for query, one in values.items()}


def compared(results: Results, first: Results, metric: str) -> list[str]:
    """Value and paired difference, over the queries of seeds that both have; "-" of an arm to itself."""
    values = by_query(results, metric)
    if not values:
        return ["-", "-"]
    start = by_query(shared_seeds(first, results)[0], metric)
    gap = paired_bootstrap_difference([values[q] for q in start], list(start.values()))
    return [shown(bootstrap_interval(list(values.values()))), "-" if results is first else shown(gap, "+.3f")]


def render() -> str:
    """Each query's mean over the splits that test it, then intervals over queries; differences are paired."""
    groups = QUEUE.by_arm()
    rows = [["arm", "seeds", "nDCG@10", "minus zero-shot", "Goodrate@10", "minus zero-shot", "judged@10", "minutes"]]
    for arm in [name for name in ARMS if name in groups]:
        own = groups[arm]
        cells = [one for m in ("ndcg@10", "goodrate@10") for one in compared(own, groups["zero-shot"], m)]
        judged = list(by_query(own, "judged@10").values())
        share = f"{np.nanmean(judged):.2f}" if judged else "-"
        rows.append([arm.replace("_KL_", ", KL "), str(len(own)), *cells, share, mean(own, "minutes", ".1f")])
    return markdown(rows)


add_table(app, "retrieval_chorus", render, render.__doc__ or "")

if __name__ == "__main__":
    app()
