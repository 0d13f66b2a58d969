"""Retrieval-GRPO on the shop: what learning from one's own top K buys over its rivals on the same rewards.

python benchmarks/retrieval_grpo.py run --seeds 0,1,2     one JSON per (arm, seed) in benchmarks/results/retrieval_grpo
python benchmarks/retrieval_grpo.py screen kl=0 kl=1      changes of the grpo arm on the dev queries
python benchmarks/retrieval_grpo_table.py [--write]       the tables and the picture of docs/retrieval_grpo.md

Budgets are updates, so that a run repeats exactly. One judge by SFT for all seeds, and per seed one encoder by
contrastive SFT on clicks, where every arm starts. All ranking arms make the same number of updates of the same number
of queries and candidates. The reward is the judge's; everything is measured by the shop's truth.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import typer
from pydantic import BaseModel, ConfigDict

from experiment import Job, Queue, add_run
from goodrate.demo.chains import query_examples
from goodrate.demo.settings import DemoSettings
from goodrate.demo.stages import CALIBRATION_PAIRS, click_pairs, judged_pairs, train_encoder, train_judge
from goodrate.learning.advantages import Scale
from goodrate.learning.fit import FitSettings
from goodrate.learning.item_matrix import top_k
from goodrate.learning.ranking_source import Pool, QueryExample, RankingSettings
from goodrate.learning.ranking_terms import Chosen, Objective, RankingTermSettings
from goodrate.learning.rewards import Gate
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_contrastive, retriever_grpo
from goodrate.recipes.retriever_rewards import JudgedRelevance, LexicalOverlap, RetrievalGrades, Score
from goodrate.relevance.listing import listing
from goodrate.relevance.verdict_store import VerdictStore
from goodrate.run_folder import write_atomic
from goodrate.settings import load
from goodrate.shop.shop import Shop, ShopSettings, generate

QUEUE = Queue("retrieval_grpo")
LIMIT, DEPTHS, LEXICAL = 400, (50, 100, 200), 100  # queries measured; depths of hit rates and of the overlap
WORTH = {"gains": (0, 1 / 7, 3 / 7, 1), "good": (0, 0, 1, 1), "graded": (0, 1 / 3, 2 / 3, 1)}  # of a label as a reward


class Settings(BaseModel):
    """All that decides the numbers of an arm."""

    model_config = ConfigDict(extra="forbid")
    shop_items: int = 3000
    shop_queries: int = 2000
    encoder_updates: int = 600
    judge_updates: int = 500
    weak_judge_updates: int = 60
    updates: int = 150
    continued_updates: int = 400
    split: Literal["train", "dev", "test"] = "test"
    method: Literal["random", "lexical", "sft", "continued", "restarted", "positives", "ranking", "rl_only"] = "ranking"
    objective: Objective = "grpo"
    reward: Literal["judge", "weak", "truth", "noise"] = "judge"
    worth: Literal["gains", "good", "graded"] = "good"
    noise: float = 0.3
    quality: bool = False
    exclusivity: bool = False
    gate: Gate = "threshold"
    scale: float = 0.2
    separate: float | None = None
    candidates: int = 16
    queries: int = 16
    pool: Pool = "part"
    pool_size: int = 512
    refresh_items: int = 128
    learning_rate: float = 5e-4
    temperature: float = 0.05
    advantage_scale: Scale = "population"
    min_spread: float = 1e-3
    kl: float = 3.0
    anchor: float = 1.0
    chosen: Chosen | None = None
    inner_steps: int = 1


TRUTH: dict[str, Any] = {"reward": "truth"}  # ablations: no judge to wait for
RIVAL: dict[str, Any] = {"kl": 0.05}  # rivals do not need GRPO's strong one: screened with this
BOTH: dict[str, Any] = {**TRUTH, "quality": True, "exclusivity": True}
WIDE: dict[str, Any] = {"candidates": 32, "queries": 8}  # as many graded candidates an update, of half the queries
ARMS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "lexical": {"method": "lexical"},
    "sft": {"method": "sft"},
    "continued": {"method": "continued"},
    "restarted": {"method": "restarted"},
    "grpo": {},
    "expected": {"objective": "expected", **RIVAL},
    "listwise": {"objective": "listwise", **RIVAL},
    "ranknet": {"objective": "ranknet", **RIVAL},
    "dpo": {"objective": "dpo", **RIVAL},
    "lambda": {"objective": "lambda", **RIVAL},
    "grpo K=32": WIDE,
    "listwise K=32": {"objective": "listwise", **RIVAL, **WIDE},
    "weak judge": {"reward": "weak"},
    "truth": TRUTH,
    "truth expected": {**TRUTH, "objective": "expected", **RIVAL},
    "truth listwise": {**TRUTH, "objective": "listwise", **RIVAL},
    "truth ranknet": {**TRUTH, "objective": "ranknet", **RIVAL},
    "truth dpo": {**TRUTH, "objective": "dpo", **RIVAL},
    "truth dpo lowest": {**TRUTH, "objective": "dpo", "chosen": "lowest", **RIVAL},
    "truth lambda": {**TRUTH, "objective": "lambda", **RIVAL},
    "truth positives": {**TRUTH, "method": "positives"},
    "truth rl_only": {**TRUTH, "method": "rl_only"},
    "truth noise": {"reward": "noise"},
    "truth gains": {**TRUTH, "worth": "gains"},
    "truth catalogue": {**TRUTH, "pool": "catalogue"},
    "truth catalogue listwise": {**TRUTH, "pool": "catalogue", "objective": "listwise", **RIVAL},
    "truth batch pool": {**TRUTH, "pool": "batch"},
    "truth offline": {**TRUTH, "pool": "start"},
    "truth offline ranknet": {**TRUTH, "pool": "start", "objective": "ranknet", **RIVAL},
    "truth offline dpo": {**TRUTH, "pool": "start", "objective": "dpo", **RIVAL},
    "truth K=8": {**TRUTH, "candidates": 8},
    "truth K=32": {**TRUTH, "candidates": 32},
    "truth KL 0": {**TRUTH, "kl": 0.0},
    "truth KL 1": {**TRUTH, "kl": 1.0},
    "truth anchor 0.1": {**TRUTH, "anchor": 0.1},
    "truth inner 2": {**TRUTH, "inner_steps": 2},
    "truth first defaults": {
        **TRUTH,
        "worth": "gains",
        "pool": "catalogue",
        "learning_rate": 3e-4,
        "kl": 0.05,
        "anchor": 0.1,
    },  # fmt: skip
    "truth quality": {**TRUTH, "quality": True},
    "fused 0.2": {**BOTH, "scale": 0.2},
    "fused 0.5": {**BOTH, "scale": 0.5},
    "fused 1": {**BOTH, "scale": 1.0},
    "ungated 0.2": {**BOTH, "scale": 0.2, "gate": "none"},
    "ungated 0.5": {**BOTH, "scale": 0.5, "gate": "none"},
    "ungated 1": {**BOTH, "scale": 1.0, "gate": "none"},
    "separate 0.2": {**BOTH, "separate": 0.2},
    "separate 0.5": {**BOTH, "separate": 0.5},
    "separate 1": {**BOTH, "separate": 1.0},
    "fused 3": {**BOTH, "scale": 3.0},
    "ungated 3": {**BOTH, "scale": 3.0, "gate": "none"},
    "separate 3": {**BOTH, "separate": 3.0},
}
# The lines of the seesaw's picture: from relevance alone to as much quality and exclusivity.
SEPARATE = {
    "one fused reward, gated": ("truth", "fused 0.2", "fused 0.5", "fused 1", "fused 3"),
    "one fused reward, ungated": ("truth", "ungated 0.2", "ungated 0.5", "ungated 1", "ungated 3"),
    "separate losses": ("truth", "separate 0.2", "separate 0.5", "separate 1", "separate 3"),
}


@dataclass(frozen=True)
class Ground:
    """A shop, its training queries with known items, and which query of the shop each is."""

    shop: Shop
    texts: list[str]
    examples: list[QueryExample]
    rows: np.ndarray

    def measured(self, split: str) -> list[int]:
        """Positions of the queries that an arm is measured on."""
        return self.shop.queries_of(split)[:LIMIT].tolist()


@functools.cache
def ground(items: int, queries: int) -> Ground:
    """The shop of seed 0 and its training queries that have clicks; a query's most clicked item is its positive."""
    shop = generate(ShopSettings(items=items, queries=queries))
    row = {shop.queries[q].text: q for q in shop.queries_of("train").tolist()}
    examples = [example for example in query_examples(shop)[0] if example.text in row]
    return Ground(shop, shop.catalog.text(), examples, np.asarray([row[e.text] for e in examples]))


def shared(name: str, made: Callable[[Path], Path]) -> Path:
    """What several arms use: made by the first that needs it while the others wait; `made` gives its folder or file."""
    with QUEUE.locked(name, wait=True):
        return made(QUEUE.work / name)


def start(s: Settings, seed: int, more: int = 0) -> Path:
    """The encoder that every arm starts from: contrastive, on clicks. more: updates, under one schedule."""
    settings = DemoSettings(
        seed=seed, items=s.shop_items, queries=s.shop_queries, encoder_updates=s.encoder_updates + more
    )

    def made(folder: Path) -> Path:
        if not (folder / "encoder").is_dir():
            train_encoder(settings, ground(s.shop_items, s.shop_queries).shop, folder, lambda record: None)
        return folder / "encoder"

    return shared(f"start-{seed}-{s.shop_items}-{s.shop_queries}-{s.encoder_updates + more}", made)


def judge(s: Settings, updates: int) -> Path:
    """The judge of seed 0, which knows the training queries' judged pairs; one for all seeds of the arms."""
    settings = DemoSettings(seed=0, items=s.shop_items, queries=s.shop_queries, judge_updates=updates)

    def made(folder: Path) -> Path:
        if not (folder / "judge").is_dir():
            train_judge(settings, ground(s.shop_items, s.shop_queries).shop, folder, lambda record: None)
        return folder / "judge"

    return shared(f"judge-0-{s.shop_items}-{s.shop_queries}-{updates}", made)


def relevance(s: Settings, seed: int, g: Ground) -> Score:
    """The reward's relevance. Verdicts of one judge are kept for all arms and seeds."""
    from goodrate.relevance.judge import Judge

    if s.reward in ("judge", "weak"):
        folder = judge(s, s.judge_updates if s.reward == "judge" else s.weak_judge_updates)
        asked = [(g.shop.queries[q].text, g.shop.queries[q].facts) for q in g.rows.tolist()]
        items = [listing(record) for record in g.shop.records]
        return JudgedRelevance(Judge.load(folder), asked, items, VerdictStore(folder / "kept.sqlite"), WORTH[s.worth])
    worth = np.asarray(WORTH[s.worth])

    def truth(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        return worth[g.shop.labels[g.rows[rows], items]]

    def noisy(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        key = (g.rows[rows].astype(np.uint64) * 1_000_003 + items.astype(np.uint64) + seed) * 0x9E3779B97F4A7C15
        wrong = (key >> np.uint64(40)) / 2**24 < s.noise  # the same pair is always wrong in the same way
        return np.where(wrong, worth[(key >> np.uint64(20)) % 4], truth(rows, items))

    return truth if s.reward == "truth" else noisy


def trained(job: Job, s: Settings, g: Ground) -> tuple[Path, dict[str, Any]]:
    """The arm's encoder, and what its training cost."""
    if s.method == "sft":
        return start(s, job.seed), {}
    if s.method == "restarted":
        return start(s, job.seed, s.continued_updates), {"updates": s.continued_updates}
    if s.method in ("continued", "positives"):
        return contrastive(job, s, g)
    first = fresh(s, job.seed) if s.method == "rl_only" else start(s, job.seed)
    score = relevance(s, job.seed, g)
    records: list[dict[str, Any]] = []
    began = time.perf_counter()
    folder = retriever_grpo.train(
        recipe(s, first, job.seed), g.examples, g.texts, grades(s, g, score), QUEUE.folder(job), records.append
    )
    return folder, cost(records, score, time.perf_counter() - began)


def recipe(s: Settings, first: Path, seed: int) -> retriever_grpo.Settings:
    """The recipe's settings of an arm."""
    rankings = RankingSettings(
        queries=s.queries, candidates=s.candidates, pool=s.pool, inner_steps=s.inner_steps, temperature=s.temperature,
        refresh_items=s.refresh_items, min_spread=s.min_spread, random_items=32, pool_size=s.pool_size,
    )  # fmt: skip
    return retriever_grpo.Settings(
        encoder=str(first), learning_rate=s.learning_rate, advantage_scale=s.advantage_scale, separate=s.separate,
        rankings=rankings, loss=RankingTermSettings(
            objective=s.objective, kl=s.kl, anchor=s.anchor, chosen=s.chosen or "highest"
        ),
        fit=FitSettings(updates=s.updates, seed=seed),
    )  # fmt: skip


def grades(s: Settings, g: Ground, score: Score) -> RetrievalGrades:
    """The fused reward of an arm."""
    texts = [example.text for example in g.examples]
    return RetrievalGrades(
        score, levels(g.shop) if s.quality else None, LexicalOverlap(texts, g.texts) if s.exclusivity else None,
        gate="none" if s.separate is not None else s.gate, scale=s.scale,
    )  # fmt: skip


def cost(records: list[dict[str, Any]], score: Score, seconds: float) -> dict[str, Any]:
    """Seconds by part, judge calls, and what training saw: groups with spread, reward before and after, staleness."""
    if not records:
        return {"updates": 0}
    parts = {name: sum(r.get(name, 0.0) for r in records) for name in records[0] if name.startswith("seconds_")}
    calls = {name: getattr(score, name) for name in ("asked", "distinct", "judged") if hasattr(score, name)}
    ends = {"first": records[:20], "last": records[-20:]}
    seen = {
        f"{name}_{end}": round(float(np.mean([r[name] for r in part])), 4)
        for name in ("reward", "share_kept", "kl", "entropy", "gradient_norm", "matrix_age", "known_in_candidates")
        for end, part in ends.items()
        if name in records[0]
    }
    return {"updates": len(records), "seconds": round(seconds, 1), **{k: round(v, 2) for k, v in parts.items()}} | (
        calls | seen
    )


def contrastive(job: Job, s: Settings, g: Ground) -> tuple[Path, dict[str, Any]]:
    """From the start on with InfoNCE: on clicks, or on every truly good item (what the encoder could learn)."""
    pairs, known = click_pairs(g.shop)
    ids = g.shop.catalog.ids
    if s.method == "positives":
        good = [np.flatnonzero(g.shop.labels[row] >= 2).tolist() for row in g.rows.tolist()]
        known = {e.text: {ids[item] for item in found} for e, found in zip(g.examples, good, strict=True)}
        pairs = [retriever_contrastive.Pair(text, item) for text, items in known.items() for item in sorted(items)]
    settings = retriever_contrastive.Settings(
        encoder=str(start(s, job.seed)), batch_size=96, learning_rate=s.learning_rate,
        fit=FitSettings(updates=s.continued_updates, seed=job.seed + 1000),  # other batches than the start had
    )  # fmt: skip
    began = time.perf_counter()
    folder = retriever_contrastive.train(
        settings, pairs, dict(zip(ids, g.texts, strict=True)), QUEUE.folder(job), positives=known
    )
    return folder, {"updates": s.continued_updates, "seconds": round(time.perf_counter() - began, 1)}


def fresh(s: Settings, seed: int) -> Path:
    """An encoder that was never trained."""
    from goodrate.models.nano import nano_folder

    def made(folder: Path) -> Path:
        if not folder.is_dir():
            tokenizer = nano_folder() / "tokenizer.json"
            Encoder.create(tokenizer, 128, 2, query_prompt="query: ", item_prompt="item: ", seed=seed).save(folder)
        return folder

    return shared(f"fresh-{seed}", made)


def levels(shop: Shop) -> np.ndarray:
    """Quality in five levels by rank."""
    rank = np.argsort(np.argsort(shop.world.quality, kind="stable"), kind="stable")
    return np.floor(5 * rank / len(rank)) / 4


@functools.cache
def lexical(items: int, queries: int, split: str) -> np.ndarray:
    """The first item positions of every measured query by the index's lexical channel, -1 where it ends sooner."""
    from goodrate.retrieval.indexing import index_catalog
    from goodrate.retrieval.store import Store

    g = ground(items, queries)

    def made(folder: Path) -> Path:
        if not (folder / "store.json").is_file():
            index_catalog(Store.create(folder, None, None, None), g.shop.catalog, None)
        return folder

    store = Store.open(shared(f"lexical-{items}-{queries}", made))
    place = {item: position for position, item in enumerate(g.shop.catalog.ids)}
    found = np.full((len(g.measured(split)), max(DEPTHS)), -1)
    for row, q in enumerate(g.measured(split)):
        hits = store.search_text(g.shop.queries[q].text, max(DEPTHS))
        found[row, : len(hits)] = [place[hit.item_id] for hit in hits]
    return found


def ranked_by(s: Settings, g: Ground, folder: Path) -> np.ndarray:
    """The first item positions of every measured query by an encoder."""
    encoder = Encoder.load(folder)
    queries = encoder.encode_queries([g.shop.queries[q].text for q in g.measured(s.split)])
    return top_k(queries, encoder.encode_items(g.texts), max(DEPTHS))


def measured(s: Settings, g: Ground, ranked: np.ndarray) -> dict[str, list[float]]:
    """Per query: hit rates, Goodrate, overlap with lexical search, exclusive recall, quality of the top 10.

    ranked: item positions (Q, 200), best first, -1 = nothing. Hit rate @k: the share of a query's good items in its
    first k. A query without a good item is unknown (NaN) there and 0 in Goodrate.
    """
    good = g.shop.labels[g.measured(s.split)] >= 2
    hits = np.take_along_axis(good, ranked, axis=1) & (ranked >= 0)
    total = np.where(good.any(axis=1), good.sum(axis=1), np.nan)
    words = lexical(s.shop_items, s.shop_queries, s.split)[:, :LEXICAL]
    both = np.asarray([np.isin(row, found) for row, found in zip(ranked[:, :LEXICAL], words, strict=True)])
    found = {f"hitrate@{k}": hits[:, :k].sum(axis=1) / total for k in DEPTHS}
    found |= {f"goodrate@{k}": hits[:, :k].mean(axis=1) for k in (10, 100)}
    found |= {"overlap@100": both.mean(axis=1), "exclusive_recall@100": (hits[:, :LEXICAL] & ~both).sum(axis=1) / total}
    found["quality@10"] = g.shop.world.quality[ranked[:, :10]].mean(axis=1)
    return {name: [float(value) for value in values] for name, values in found.items()}


def make(job: Job) -> dict[str, Any]:
    """Train and measure an arm. by_query: values in the order of `Ground.measured`, "nan" = unknown."""
    s = job.settings
    assert isinstance(s, Settings)
    g = ground(s.shop_items, s.shop_queries)
    spent: dict[str, Any] = {}
    if s.method == "random":
        rng = np.random.default_rng(job.seed)
        ranked = np.stack([rng.permutation(s.shop_items)[: max(DEPTHS)] for _ in g.measured(s.split)])
    elif s.method == "lexical":
        ranked = lexical(s.shop_items, s.shop_queries, s.split)
    else:
        folder, spent = trained(job, s, g)
        ranked = ranked_by(s, g, folder)
    by_query = measured(s, g, ranked)
    means = {name: float(np.nanmean(values)) for name, values in by_query.items()}
    lines = {name: " ".join(f"{value:.4f}" for value in values) for name, values in by_query.items()}
    tail = "".join(str(int(g.shop.queries[q].tail)) for q in g.measured(s.split))
    return {"means": means, "cost": spent, "tail": tail, "by_query": lines}


def judge_quality(s: Settings, updates: int) -> dict[str, float]:
    """How right a judge is on dev pairs, which calibrated it and did not train it."""
    from goodrate.evaluation.classification import classify
    from goodrate.relevance.judge import Judge

    shop = ground(s.shop_items, s.shop_queries).shop
    pairs = judged_pairs(shop, "dev", CALIBRATION_PAIRS, 0)
    found = Judge.load(judge(s, updates)).probabilities(pairs.pairs)
    report = classify(pairs.gold, found.argmax(axis=1), shop.book.scale)
    return {"accuracy": float(report.accuracy), "macro_f1": float(report.macro_f1)}


app = typer.Typer(add_completion=False, help=__doc__)


def job_of(arm: str, seed: int, base: Settings) -> Job:
    """An arm is a change of the settings."""
    return Job(arm.replace(" ", "_"), seed, base.model_copy(update=ARMS[arm]))


add_run(app, QUEUE, Settings, tuple(ARMS), make, job_of)


@app.command()
def judges() -> None:
    """How right the judge and the weak judge are on dev pairs."""
    s = Settings()
    for updates in (s.judge_updates, s.weak_judge_updates):
        print(updates, "updates:", {name: round(value, 3) for name, value in judge_quality(s, updates).items()})


@app.command()
def paid() -> None:
    """How often a reward pays a bad candidate more than a good one: the start's top 16 of 400 training queries."""
    s = Settings(reward="truth", quality=True, exclusivity=True, split="train")
    g = ground(s.shop_items, s.shop_queries)
    encoder, rows = Encoder.load(start(s, 0)), np.arange(LIMIT)
    queries = encoder.encode_queries([g.examples[row].text for row in rows])
    candidates = torch.from_numpy(top_k(queries, encoder.encode_items(g.texts), s.candidates))
    good = g.shop.labels[g.rows[rows]][rows[:, None], candidates.numpy()] >= 2
    pairs = good[:, :, None] & ~good[:, None, :]
    for scale in (0.2, 0.5, 1.0):
        for gate in ("threshold", "none"):
            chosen = s.model_copy(update={"gate": gate, "scale": scale})
            worth = (
                grades(chosen, g, relevance(chosen, 0, g))(rows.tolist(), candidates).outcome.view(good.shape).numpy()
            )
            wrong = (worth[:, :, None] < worth[:, None, :]) & pairs
            best = ~good[rows, worth.argmax(axis=1)] & good.any(axis=1)
            print(f"scale {scale}, gate {gate}: {wrong.sum() / pairs.sum():.3f} of good-bad pairs the wrong way round, "
                  f"the best paid is bad in {best.sum() / good.any(axis=1).sum():.3f} of the queries")  # fmt: skip


@app.command()
def training() -> None:
    """Measure the encoders of seed 0 that are still in runs/ on training queries, into their results."""
    torch.set_num_threads(1)
    for found in QUEUE.found():
        s = Settings.model_validate(found["settings"])
        job = Job(found["arm"], found["seed"], s)
        folder = start(s, 0) if s.method == "sft" else QUEUE.folder(job) / "encoder"
        if (s.split, job.seed) == ("test", 0) and folder.is_dir() and "training" not in found:
            g, on = ground(s.shop_items, s.shop_queries), s.model_copy(update={"split": "train"})
            values = measured(on, g, ranked_by(on, g, folder))
            found["training"] = {name: round(float(np.nanmean(value)), 4) for name, value in values.items()}
            write_atomic(QUEUE.path(job), json.dumps(found, indent=1) + "\n")


@app.command()
def screen(changes: list[str], reward: str = "truth", seed: int = 0) -> None:
    """Measure changes of the grpo arm on the dev queries: learning_rate=1e-3,kl=0 is one."""
    torch.set_num_threads(1)
    for change in changes:
        given = [part for part in change.split(",") if part]
        settings = load(Settings, None, [f"reward={reward}", "split=dev", *given])
        job = Job("screen", seed, settings)
        QUEUE.run([job], make)
        found = json.loads(QUEUE.path(job).read_text(encoding="utf-8"))
        shown = {name: round(value, 4) for name, value in found["means"].items()}
        print(change, shown, found["cost"], flush=True)


if __name__ == "__main__":
    app()
