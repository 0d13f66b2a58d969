"""Retrieval-GRPO on a real catalogue (Chorus) from MiniLM: does learning from one's own top K beat what it starts from?

python benchmarks/retrieval_chorus.py run --seeds 0,1,2 --threads 1   one JSON per (arm, seed), results/retrieval_chorus
python benchmarks/retrieval_chorus.py table                           what is there

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
import typer
from pydantic import BaseModel, ConfigDict

from chorus_cross import Score, train_cross_encoder
from chorus_data import Chorus, load, minilm_folder, movable, silver_pairs
from experiment import Job, Queue, add_run, with_interval
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
from goodrate.relevance.prompts import Pair
from goodrate.scale import GRADED_0_3 as SCALE

QUEUE = Queue("retrieval_chorus")
ARMS: dict[str, dict[str, Any]] = {
    "zero-shot": {},
    "judge": {},
    "contrastive": {},
    "grpo": {},
    "grpo, KL 3": {"kl": 3.0, "anchor": 1.0},
    "contrastive+grpo": {},
}
NAMES = {arm.replace(", ", "_").replace(" ", "_"): arm for arm in ARMS}
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
    chorus = load(seed, s.item_chars)
    rest = np.asarray(sorted(set(chorus.catalog.ids) - chorus.texts.keys()))
    ids = [*chorus.texts, *np.random.default_rng(0).permutation(rest)[: s.others].tolist()]
    frame = chorus.catalog.rows(ids)
    texts = render_items(frame, fields=("title", "description"), max_chars=s.item_chars)
    place = {item: position for position, item in enumerate(ids)}
    good: dict[str, set[int]] = {}
    for query, item, label in chorus.rows("train"):
        if SCALE.is_positive[label]:
            good.setdefault(query, set()).add(place[item])
    human = [QueryExample(query, min(items), frozenset(items)) for query, items in good.items()]
    held_out = [*chorus.parts["test"].queries(), *chorus.parts["dev"].queries()]
    made = catalogue_queries(frame, texts, held_out, s.catalogue_queries, seed)
    return Ground(chorus, ids, texts, [*human, *made])


def catalogue_queries(frame: Any, texts: list[str], held_out: list[str], count: int, seed: int) -> list[QueryExample]:
    """Queries out of an item: words of its title, its brand with one, its colour with one. Known: items with all words.

    None is in the group of a held-out query (goodrate.catalog.splits).
    """
    rng, lower = np.random.default_rng([seed, 7]), [text.lower() for text in texts]
    titles, brands, attributes = (frame[name].to_list() for name in ("title", "brand", "attributes"))
    made: dict[str, int] = {}
    while len(made) < 2 * count:
        own = int(rng.integers(len(texts)))
        words = re.findall(r"[A-Za-z]{4,}", titles[own])
        if not words:
            continue
        start, kind = int(rng.integers(len(words))), int(rng.integers(3))
        told = json.loads(attributes[own])
        colour = next((str(told[name]) for name in COLOURS if name in told), "")
        first = ["", brands[own] or "", colour][kind]
        many = int(rng.integers(1, 3)) if not first else 1
        made.setdefault(" ".join([first, *words[start : start + many]]).strip().lower(), own)
    queries = [*held_out, *made]
    group = query_groups(queries)
    closed = set(group[: len(held_out)])
    examples = []
    for query, number in zip(queries[len(held_out) :], group[len(held_out) :], strict=True):
        if number not in closed and len(examples) < count:
            has = [place for place, text in enumerate(lower) if all(word in text for word in query.split())]
            examples.append(QueryExample(query, made[query], frozenset([made[query], *has])))
    return examples


class CrossJudge:
    """The cross-encoder as JudgedRelevance asks a judge."""

    scale = SCALE

    def __init__(self, score: Score) -> None:
        self._score = score

    def probabilities(self, pairs: list[Pair]) -> np.ndarray:
        """(N, labels)."""
        return self._score([(pair.query, pair.item_text) for pair in pairs])


@functools.cache
def judge(seed: int, settings: str) -> CrossJudge:
    """The judge of a split: human labels of its training queries, and silver pairs of items that nobody judged."""
    s, chorus = Settings.model_validate_json(settings), ground(seed, settings).chorus
    human = [(query, chorus.texts[item], label) for query, item, label in chorus.rows("train")]
    score = train_cross_encoder(
        [*human, *silver_pairs(chorus, s.silver, seed)], len(SCALE), seed, epochs=s.judge_epochs,
        learning_rate=s.judge_rate, batch_size=32, max_tokens=64, precision="auto",
    )  # fmt: skip
    return CrossJudge(score)


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
    return retriever_contrastive.train(recipe, pairs, items, out, positives=positives, progress=shown)


def reinforced(s: Settings, seed: int, start: Path, out: Path) -> tuple[Path, dict[str, Any]]:
    """retriever_grpo from an encoder, and what it cost."""
    g = ground(seed, s.model_dump_json())
    relevance = JudgedRelevance(judge(seed, s.model_dump_json()), [(e.text, "") for e in g.examples], g.texts)  # type: ignore[arg-type]
    recipe = retriever_grpo.Settings(
        encoder=str(start), learning_rate=s.grpo_rate,
        rankings=RankingSettings(
            queries=s.queries, candidates=s.candidates, refresh_items=128, random_items=16, inner_steps=s.inner_steps
        ),
        loss=RankingTermSettings(kl=s.kl, anchor=s.anchor), fit=FitSettings(updates=s.updates, seed=seed),
    )  # fmt: skip
    records: list[dict[str, Any]] = []

    def keep(record: dict[str, Any]) -> None:
        records.append(record)
        shown(record)

    folder = retriever_grpo.train(recipe, g.examples, g.texts, RetrievalGrades(relevance), out, keep)
    told = {name: [round(r[name], 4) for r in records if name in r] for name in ("reward", "kl", "share_kept")}
    return folder, {"asked": relevance.asked, "judged": relevance.judged, **told}


def shown(record: dict[str, Any]) -> None:
    """A line of progress."""
    if record["update"] % 10 == 0:
        print({k: round(v, 3) for k, v in record.items() if isinstance(v, float)}, flush=True)


def make(job: Job) -> dict[str, Any]:
    """Train and measure an arm."""
    s = job.settings
    assert isinstance(s, Settings)
    g, out = ground(job.seed, s.model_dump_json()), QUEUE.folder(job)
    if job.arm == "judge":
        return measured_judge(g, judge(job.seed, s.model_dump_json()))
    start = minilm_folder()
    if job.arm.startswith("contrastive"):
        start = contrastive(s, job.seed, QUEUE.folder(Job("contrastive", job.seed, s)))
    cost: dict[str, Any] = {}
    began = time.perf_counter()
    if "grpo" in job.arm:
        judge(job.seed, s.model_dump_json())
        cost["judge_seconds"] = round(time.perf_counter() - began, 1)
        start, told = reinforced(s, job.seed, start, out)
        cost |= told
    return {"cost": cost, **measured(g, Encoder.load(start, precision="auto"))}


def measured(g: Ground, encoder: Encoder) -> dict[str, Any]:
    """nDCG@10 of the judged lists by cosine; Goodrate@10 and the judged share of a search of the whole catalogue."""
    part = g.chorus.parts["test"]
    queries, vectors = list(part.queries()), encoder.encode_items(g.texts)
    asked = encoder.encode_queries(queries)
    place = {item: position for position, item in enumerate(g.ids)}
    cosine = {query: row @ vectors.T for query, row in zip(queries, asked, strict=True)}
    lists = {q: [(i, float(cosine[q][place[i]])) for i in items] for q, items in movable(part).items()}
    found = {"ndcg@10": _values(lists, movable(part), "ndcg@10", True)}
    ranked = top_k(asked, vectors, 10)
    run = {
        q: [(g.ids[i], -float(n)) for n, i in enumerate(row)] for q, row in zip(queries, ranked.tolist(), strict=True)
    }
    for name in ("goodrate@10", "judged@10"):
        found[name] = _values(run, part.qrels(), name, False)
    return {"by_query": found, "means": {name: _mean(v) for name, v in found.items()}}


def measured_judge(g: Ground, judge: CrossJudge) -> dict[str, Any]:
    """nDCG@10 of the judged lists in the judge's order: what the reward knows."""
    part, qrels = g.chorus.parts["test"], movable(g.chorus.parts["test"])
    pairs = [(query, item) for query, items in qrels.items() for item in items]
    gains = SCALE.expected_gain(judge.probabilities([Pair(query, g.chorus.texts[item]) for query, item in pairs]))
    run: dict[str, list[tuple[str, float]]] = {}
    for (query, item), gain in zip(pairs, gains.tolist(), strict=True):
        run.setdefault(query, []).append((item, gain))
    found = _values(run, movable(part), "ndcg@10", True)
    return {"cost": {}, "by_query": {"ndcg@10": found}, "means": {"ndcg@10": _mean(found)}}


def _values(run: Any, qrels: Any, metric: str, judged_only: bool) -> dict[str, float | None]:
    """A hash of the query, not its text -> value; None where the metric cannot be told."""
    table = evaluate_run(run, qrels, SCALE, [metric], judged_only=judged_only)
    names = [hashlib.sha256(query.encode()).hexdigest()[:12] for query in table["query_id"]]
    values = [None if value != value else round(value, 6) for value in numbers(table, metric).tolist()]
    return dict(zip(names, values, strict=True))


def _mean(values: dict[str, float | None]) -> float:
    return float(np.mean([value for value in values.values() if value is not None]))


app = typer.Typer(add_completion=False, help=__doc__)
add_run(
    app, QUEUE, Settings, tuple(NAMES), make,
    lambda arm, seed, base: Job(arm, seed, base.model_copy(update=ARMS[NAMES[arm]])),
)  # fmt: skip


@app.command()
def table() -> None:
    """Each query's mean over the splits that test it, then intervals over queries; differences are paired."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for found in QUEUE.found():
        groups.setdefault(found["arm"], []).append(found)
    first = groups["zero-shot"]
    print("arm | seeds | nDCG@10 | minus zero-shot | Goodrate@10 | minus zero-shot | judged@10 | minutes")
    print(" | ".join(["---"] * 8))
    for arm in [name for name in NAMES if name in groups]:
        cells = [NAMES[arm], str(len(groups[arm]))]
        for metric in ("ndcg@10", "goodrate@10"):
            cells += _compared(groups[arm], first, metric, arm == "zero-shot")
        judged = _by_query(groups[arm], "judged@10")
        cells += [f"{np.nanmean(list(judged.values())):.2f}" if judged else "-"]
        print(" | ".join([*cells, f"{np.mean([found['minutes'] for found in groups[arm]]):.1f}"]))


def _compared(results: list[dict[str, Any]], first: list[dict[str, Any]], metric: str, is_first: bool) -> list[str]:
    """Value and paired difference, over the queries of seeds that both have."""
    values = _by_query(results, metric)
    if not values:
        return ["-", "-"]
    shared = {found["seed"] for found in results}
    start = _by_query([found for found in first if found["seed"] in shared], metric)
    gap = paired_bootstrap_difference([values[q] for q in start], list(start.values()))
    return [with_interval(bootstrap_interval(list(values.values()))), "-" if is_first else with_interval(gap, "+.3f")]


def _by_query(results: list[dict[str, Any]], metric: str) -> dict[str, float]:
    told: dict[str, list[float]] = {}
    for found in results:
        for query, value in found["by_query"].get(metric, {}).items():
            told.setdefault(query, []).append(float("nan") if value is None else value)
    return {query: float(np.mean(values)) for query, values in told.items()}


if __name__ == "__main__":
    app()
