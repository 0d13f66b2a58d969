"""Retrieval-GRPO on the shop: what learning from one's own top K buys over its rivals on the same rewards.

python benchmarks/retrieval_grpo.py run --seeds 0,1,2     one JSON per (arm, seed) in benchmarks/results/retrieval_grpo
python benchmarks/retrieval_grpo.py table                 what is there

Per seed one encoder by contrastive SFT on clicks and one judge by SFT; every arm starts from that encoder and has the
same seconds. The reward is the judge's; Goodrate is measured by the shop's truth, that is by something else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from pydantic import BaseModel, ConfigDict

from experiment import Job, Queue, add_run
from goodrate.demo.settings import DemoSettings
from goodrate.demo.stages import click_pairs, train_encoder, train_judge
from goodrate.evaluation.significance import bootstrap_interval, paired_bootstrap_difference
from goodrate.learning.fit import FitSettings
from goodrate.learning.item_matrix import top_k
from goodrate.learning.ranking_source import QueryExample, RankingSettings
from goodrate.learning.ranking_terms import Objective, RankingTermSettings
from goodrate.learning.rewards import Gate
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_grpo
from goodrate.recipes.retriever_rewards import JudgedRelevance, LexicalOverlap, RetrievalGrades, Score
from goodrate.relevance.listing import listing
from goodrate.shop.shop import Shop, ShopSettings, generate

QUEUE = Queue("retrieval_grpo")
TEST_QUERIES, DEPTHS, LEXICAL = 400, (50, 100, 200), 100


class Settings(BaseModel):
    """All that decides the numbers of an arm."""

    model_config = ConfigDict(extra="forbid")
    shop_items: int = 5000
    shop_queries: int = 2000
    encoder_seconds: float = 75.0
    judge_seconds: float = 210.0
    weak_judge_seconds: float = 30.0
    seconds: float = 240.0
    method: Literal["sft", "continued", "ranking", "rl_only"] = "ranking"
    objective: Objective = "grpo"
    reward: Literal["judge", "weak", "truth", "noise"] = "judge"
    noise: float = 0.3
    quality: bool = False
    exclusivity: bool = False
    gate: Gate = "threshold"
    scale: float = 0.2
    candidates: int = 16
    queries: int = 32
    pool: Literal["catalogue", "batch"] = "catalogue"
    learning_rate: float = 3e-4
    kl: float = 0.05
    anchor: float = 0.1
    inner_steps: int = 1


ARMS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "continued": {"method": "continued"},
    "rl_only": {"method": "rl_only"},
    "grpo": {},
    "listwise": {"objective": "listwise"},
    "ranknet": {"objective": "ranknet"},
    "lambda": {"objective": "lambda"},
    "dpo": {"objective": "dpo"},
    "quality": {"quality": True},
    "quality+exclusivity": {"quality": True, "exclusivity": True},
    "quality+exclusivity ungated": {"quality": True, "exclusivity": True, "gate": "none"},
    "weak judge": {"reward": "weak"},
    "noise": {"reward": "noise"},
    "truth": {"reward": "truth"},
    "K=8": {"candidates": 8},
    "K=32": {"candidates": 32},
    "batch pool": {"pool": "batch"},
    "inner 2": {"inner_steps": 2},
    "no anchor": {"anchor": 0.0},
}


@dataclass(frozen=True)
class Ground:
    """A shop, its training queries with known items, and which query of the shop each is."""

    shop: Shop
    texts: list[str]
    examples: list[QueryExample]
    rows: np.ndarray


@functools.cache
def ground(items: int, queries: int) -> Ground:
    """The shop of seed 0 and its training queries that have clicks; a query's most clicked item is its positive."""
    shop = generate(ShopSettings(items=items, queries=queries))
    place = {item: position for position, item in enumerate(shop.catalog.ids)}
    row = {shop.queries[q].text: q for q in shop.queries_of("train").tolist()}
    pairs, known = click_pairs(shop)
    best: dict[str, tuple[float, str]] = {}
    for pair in pairs:
        best[pair.query] = max(best.get(pair.query, (0.0, "")), (pair.weight, pair.item_id))
    examples = [QueryExample(q, place[best[q][1]], frozenset(place[i] for i in known[q])) for q in best if q in row]
    return Ground(shop, shop.catalog.text(), examples, np.asarray([row[e.text] for e in examples]))


def demo_settings(s: Settings, seed: int, judge_seconds: float) -> DemoSettings:
    """The demo's stages, which train the start, with this seed and these budgets."""
    return DemoSettings(
        seed=seed, items=s.shop_items, queries=s.shop_queries, encoder_seconds=s.encoder_seconds,
        judge_seconds=judge_seconds,
    )  # fmt: skip


def start(s: Settings, seed: int, seconds: float | None = None) -> Path:
    """The encoder that every arm starts from: contrastive, on clicks."""
    folder = QUEUE.work / f"start-{seed}-{s.shop_items}-{s.shop_queries}-{seconds or s.encoder_seconds}"
    chosen = demo_settings(s, seed, s.judge_seconds)
    if seconds:
        chosen = chosen.model_copy(update={"encoder_seconds": seconds})
    if not (folder / "encoder").is_dir():
        train_encoder(chosen, ground(s.shop_items, s.shop_queries).shop, folder, lambda record: None)
    return folder / "encoder"


def judge(s: Settings, seed: int, seconds: float) -> Path:
    """A judge that knows the training queries' judged pairs."""
    folder = QUEUE.work / f"judge-{seed}-{s.shop_items}-{s.shop_queries}-{seconds}"
    if not (folder / "judge").is_dir():
        train_judge(demo_settings(s, seed, seconds), ground(s.shop_items, s.shop_queries).shop, folder, lambda r: None)
    return folder / "judge"


def relevance(s: Settings, seed: int, g: Ground) -> Score:
    """The reward's relevance."""
    from goodrate.relevance.judge import Judge

    if s.reward in ("judge", "weak"):
        folder = judge(s, seed, s.judge_seconds if s.reward == "judge" else s.weak_judge_seconds)
        asked = [(g.shop.queries[q].text, g.shop.queries[q].facts) for q in g.rows.tolist()]
        return JudgedRelevance(Judge.load(folder), asked, [listing(record) for record in g.shop.records])
    gains = np.asarray(g.shop.book.scale.gains) / max(g.shop.book.scale.gains)

    def truth(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        return gains[g.shop.labels[g.rows[rows], items]]

    def noisy(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        key = (g.rows[rows].astype(np.uint64) * 1_000_003 + items.astype(np.uint64) + seed) * 0x9E3779B97F4A7C15
        wrong = (key >> np.uint64(40)) / 2**24 < s.noise  # the same pair is always wrong in the same way
        return np.where(wrong, gains[(key >> np.uint64(20)) % 4], truth(rows, items))

    return truth if s.reward == "truth" else noisy


def trained(job: Job, s: Settings, g: Ground) -> tuple[Path, dict[str, Any]]:
    """The arm's encoder, and what its training cost."""
    out = QUEUE.folder(job)
    if s.method == "sft":
        return start(s, job.seed), {}
    if s.method == "continued":
        return start(s, job.seed, s.encoder_seconds + s.seconds), {}
    first = fresh(s, job.seed) if s.method == "rl_only" else start(s, job.seed)
    score = relevance(s, job.seed, g)
    texts = [example.text for example in g.examples]
    grade = RetrievalGrades(
        score, levels(g.shop) if s.quality else None, LexicalOverlap(texts, g.texts) if s.exclusivity else None,
        gate=s.gate, scale=s.scale,
    )  # fmt: skip
    recipe = retriever_grpo.Settings(
        encoder=str(first), learning_rate=s.learning_rate,
        rankings=RankingSettings(queries=s.queries, candidates=s.candidates, pool=s.pool, inner_steps=s.inner_steps),
        loss=RankingTermSettings(objective=s.objective, kl=s.kl, anchor=s.anchor),
        fit=FitSettings(seconds=s.seconds, seed=job.seed),
    )  # fmt: skip
    records: list[dict[str, Any]] = []
    folder = retriever_grpo.train(recipe, g.examples, g.texts, grade, out, records.append)
    grading = sum(record["seconds_grading"] for record in records)
    calls = {name: getattr(score, name) for name in ("asked", "judged") if hasattr(score, name)}
    return folder, {"updates": len(records), "share_of_time_grading": grading / s.seconds, **calls}


def fresh(s: Settings, seed: int) -> Path:
    """An encoder that was never trained."""
    from goodrate.models.nano import nano_folder

    folder = QUEUE.work / f"fresh-{seed}"
    if not folder.is_dir():
        made = Encoder.create(
            nano_folder() / "tokenizer.json", 128, 2, query_prompt="query: ", item_prompt="item: ", seed=seed
        )
        made.save(folder)
    return folder


def levels(shop: Shop) -> np.ndarray:
    """Quality in five levels by rank."""
    rank = np.argsort(np.argsort(shop.world.quality, kind="stable"), kind="stable")
    return np.floor(5 * rank / len(rank)) / 4


@functools.cache
def lexical(items: int, queries: int) -> np.ndarray:
    """The first LEXICAL item positions of every test query by the index's lexical channel, -1 where it ends sooner."""
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store

    g = ground(items, queries)
    folder = QUEUE.work / f"lexical-{items}-{queries}"
    if not (folder / "store.json").is_file():
        index_catalog(Store.create(folder, None, None, None), g.shop.catalog, None)
    store, place = Store.open(folder), {item: position for position, item in enumerate(g.shop.catalog.ids)}
    found = np.full((TEST_QUERIES, LEXICAL), -1)
    for row, q in enumerate(g.shop.queries_of("test")[:TEST_QUERIES].tolist()):
        hits = store.search_text(g.shop.queries[q].text, LEXICAL)
        found[row, : len(hits)] = [place[hit.item_id] for hit in hits]
    return found


def measured(s: Settings, g: Ground, folder: Path) -> dict[str, list[float]]:
    """Per test query: hit rates, Goodrate, overlap with lexical search, exclusive recall, quality of the top 10."""
    encoder, shop = Encoder.load(folder), g.shop
    test = shop.queries_of("test")[:TEST_QUERIES]
    queries = encoder.encode_queries([shop.queries[q].text for q in test.tolist()])
    ranked = top_k(queries, encoder.encode_items(g.texts), max(DEPTHS))
    good = shop.labels[test] >= 2
    hits = np.take_along_axis(good, ranked, axis=1)
    total = np.maximum(good.sum(axis=1), 1)
    words = lexical(s.shop_items, s.shop_queries)
    shared = np.asarray([np.isin(row[:LEXICAL], found).mean() for row, found in zip(ranked, words, strict=True)])
    only = np.asarray([~np.isin(row[:100], found) for row, found in zip(ranked, words, strict=True)])
    found = {f"hitrate@{k}": hits[:, :k].sum(axis=1) / total for k in DEPTHS}
    found |= {f"goodrate@{k}": hits[:, :k].mean(axis=1) for k in (10, 100)}
    found |= {"overlap@100": shared, "exclusive_recall@100": (hits[:, :100] & only).sum(axis=1) / total}
    found["quality@10"] = shop.world.quality[ranked[:, :10]].mean(axis=1)
    return {name: [round(float(value), 5) for value in values] for name, values in found.items()}


def make(job: Job) -> dict[str, Any]:
    """Train and measure an arm."""
    s = job.settings
    assert isinstance(s, Settings)
    g = ground(s.shop_items, s.shop_queries)
    folder, cost = trained(job, s, g)
    tail = [bool(g.shop.queries[q].tail) for q in g.shop.queries_of("test")[:TEST_QUERIES].tolist()]
    families = [g.shop.queries[q].family for q in g.shop.queries_of("test")[:TEST_QUERIES].tolist()]
    by_query = measured(s, g, folder)
    means = {name: float(np.mean(values)) for name, values in by_query.items()}
    return {"means": means, "cost": cost, "tail": tail, "families": families, "by_query": by_query}


app = typer.Typer(add_completion=False, help=__doc__)


def job_of(arm: str, seed: int, base: Settings) -> Job:
    """An arm is a change of the settings."""
    return Job(arm.replace(" ", "_"), seed, base.model_copy(update=ARMS[arm]))


add_run(app, QUEUE, Settings, tuple(ARMS), make, job_of)


@app.command()
def table() -> None:
    """Means over seeds and queries; hit rate and Goodrate with the paired difference to SFT."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for found in QUEUE.found():
        groups.setdefault(found["arm"], []).append(found)
    show: Callable[[dict[str, Any]], str] = lambda i: f"{i['value']:.3f} ({i['low']:.3f} to {i['high']:.3f})"  # noqa: E731
    names = ["hitrate@100", "goodrate@10", "goodrate@100"]
    plain = ["hitrate@50", "hitrate@200", "overlap@100", "exclusive_recall@100", "quality@10"]
    heads = [f"{name} | minus SFT" for name in names]
    print(" | ".join(["arm", "seeds", *heads, "hitrate@100 tail", *plain, "updates", "minutes"]))
    first = {name: _by_query(groups["sft"], name) for name in names} if "sft" in groups else {}
    order = [arm.replace(" ", "_") for arm in ARMS]
    for arm, results in sorted(groups.items(), key=lambda entry: order.index(entry[0])):
        cells = []
        for name in names:
            values = _by_query(results, name)
            gap = paired_bootstrap_difference(values, first[name]).as_dict() if first and arm != "sft" else None
            cells += [show(bootstrap_interval(values).as_dict()), "-" if gap is None else show(gap)]
        tail = np.asarray(results[0]["tail"])
        cells.append(f"{_by_query(results, 'hitrate@100')[tail].mean():.3f}")
        cells += [f"{_by_query(results, name).mean():.3f}" for name in plain]
        updates = [found["cost"].get("updates", 0) for found in results]
        minutes = [found["minutes"] for found in results]
        print(" | ".join([arm, str(len(results)), *cells, f"{np.mean(updates):.0f}", f"{np.mean(minutes):.1f}"]))


def _by_query(results: list[dict[str, Any]], name: str) -> np.ndarray:
    """A metric of every query, mean over seeds."""
    return np.mean([found["by_query"][name] for found in results], axis=0)


if __name__ == "__main__":
    app()
