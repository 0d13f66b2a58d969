"""Retrieval-GRPO on the shop: what learning from one's own top K buys over its rivals on the same rewards.

python benchmarks/retrieval_grpo.py run --seeds 0,1,2     one JSON per (arm, seed) in benchmarks/results/retrieval_grpo
python benchmarks/retrieval_grpo.py run --arms grpo --set split=dev --set kl=0      a change of the grpo arm, screened
python benchmarks/retrieval_grpo.py table --write         benchmarks/results/retrieval_grpo.md

Budgets are updates, so that a run repeats exactly. One judge by SFT for all seeds, and per seed one encoder by
contrastive SFT on clicks, where every arm starts. All ranking arms make the same number of updates of the same number
of queries and candidates. The reward is the judge's; everything is measured by the shop's truth.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from goodrate.learning.advantages import Scale
from goodrate.learning.fit import FitSettings
from goodrate.learning.ranking_source import Pool, RankingSettings
from goodrate.learning.ranking_terms import Chosen, Objective, RankingTermSettings
from goodrate.learning.rewards import Gate
from goodrate.recipes import retriever_contrastive, retriever_grpo
from goodrate.recipes.retriever_rewards import LexicalOverlap, RetrievalGrades, Score
from goodrate.recipes.retriever_runs import positive_pairs
from goodrate.run_folder import write_atomic
from lib import retrieval_arms
from lib.queue import ByArm, Job, experiment
from lib.retrieval_arms import DEPTHS, QUEUE, lexical, measured_queries, quality_levels, ranked_by
from lib.retrieval_tables import costs, logged, others, relevance_rows, trained_rows, versus
from lib.shop_data import Ground, data_of, retrieval_ground
from lib.tables import add_table, markdown

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
FIRST: dict[str, Any] = {"worth": "gains", "pool": "catalogue", "learning_rate": 3e-4, "kl": 0.05, "anchor": 0.1}
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
    "grpo_K=32": WIDE,
    "listwise_K=32": {"objective": "listwise", **RIVAL, **WIDE},
    "weak_judge": {"reward": "weak"},
    "truth": TRUTH,
    "truth_expected": {**TRUTH, "objective": "expected", **RIVAL},
    "truth_listwise": {**TRUTH, "objective": "listwise", **RIVAL},
    "truth_ranknet": {**TRUTH, "objective": "ranknet", **RIVAL},
    "truth_dpo": {**TRUTH, "objective": "dpo", **RIVAL},
    "truth_dpo_lowest": {**TRUTH, "objective": "dpo", "chosen": "lowest", **RIVAL},
    "truth_lambda": {**TRUTH, "objective": "lambda", **RIVAL},
    "truth_positives": {**TRUTH, "method": "positives"},
    "truth_rl_only": {**TRUTH, "method": "rl_only"},
    "truth_noise": {"reward": "noise"},
    "truth_catalogue": {**TRUTH, "pool": "catalogue"},
    "truth_batch_pool": {**TRUTH, "pool": "batch"},
    "truth_offline": {**TRUTH, "pool": "start"},
    "truth_offline_dpo": {**TRUTH, "pool": "start", "objective": "dpo", **RIVAL},
    "truth_K=8": {**TRUTH, "candidates": 8},
    "truth_K=32": {**TRUTH, "candidates": 32},
    "truth_KL_0": {**TRUTH, "kl": 0.0},
    "truth_KL_1": {**TRUTH, "kl": 1.0},
    "truth_anchor_0.1": {**TRUTH, "anchor": 0.1},
    "truth_inner_2": {**TRUTH, "inner_steps": 2},
    "truth_first_defaults": {**TRUTH, **FIRST},
    "truth_quality": {**TRUTH, "quality": True},
    "fused_1": {**BOTH, "scale": 1.0},
    "ungated_1": {**BOTH, "scale": 1.0, "gate": "none"},
    "separate_1": {**BOTH, "separate": 1.0},
    "fused_3": {**BOTH, "scale": 3.0},
    "ungated_3": {**BOTH, "scale": 3.0, "gate": "none"},
    "separate_3": {**BOTH, "separate": 3.0},
}


def ground(s: Settings) -> Ground:
    """The shop of the settings."""
    return retrieval_ground(s.shop_items, s.shop_queries)


def start(s: Settings, seed: int, more: int = 0) -> Path:
    """The encoder that every arm starts from. more: updates, under one schedule."""
    return retrieval_arms.start_encoder(seed, s.shop_items, s.shop_queries, s.encoder_updates + more)


def judge(s: Settings, updates: int) -> Path:
    """The judge that is the reward."""
    return retrieval_arms.reward_judge(s.shop_items, s.shop_queries, updates)


def relevance(s: Settings, seed: int, g: Ground) -> Score:
    """The reward's relevance: a judge's, the truth's, or the truth's with errors."""
    worth = np.asarray(WORTH[s.worth])
    if s.reward in ("judge", "weak"):
        folder = judge(s, s.judge_updates if s.reward == "judge" else s.weak_judge_updates)
        return retrieval_arms.judged_relevance(g, folder, WORTH[s.worth])

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
    first = retrieval_arms.untrained_encoder(job.seed) if s.method == "rl_only" else start(s, job.seed)
    score = relevance(s, job.seed, g)
    records: list[dict[str, Any]] = []
    began = time.perf_counter()
    folder = retriever_grpo.train(
        recipe(s, first, job.seed), g.examples, g.texts, grades(s, g, score), QUEUE.work_folder(job), records.append
    )
    return folder, cost(records, score, time.perf_counter() - began)


def recipe(s: Settings, first: Path, seed: int) -> retriever_grpo.Settings:
    """The recipe's settings of an arm."""
    return retriever_grpo.Settings(
        encoder=str(first), learning_rate=s.learning_rate, advantage_scale=s.advantage_scale, separate=s.separate,
        rankings=RankingSettings(
            queries=s.queries, candidates=s.candidates, pool=s.pool, inner_steps=s.inner_steps,
            temperature=s.temperature, refresh_items=s.refresh_items, min_spread=s.min_spread, random_items=32,
            pool_size=s.pool_size,
        ),
        loss=RankingTermSettings(objective=s.objective, kl=s.kl, anchor=s.anchor, chosen=s.chosen or "highest"),
        fit=FitSettings(updates=s.updates, seed=seed),
    )  # fmt: skip


def grades(s: Settings, g: Ground, score: Score) -> RetrievalGrades:
    """The fused reward of an arm."""
    words = LexicalOverlap([example.text for example in g.examples], g.texts) if s.exclusivity else None
    gate = "none" if s.separate is not None else s.gate
    return RetrievalGrades(score, quality_levels(g.shop) if s.quality else None, words, gate=gate, scale=s.scale)


def cost(records: list[dict[str, Any]], score: Score, seconds: float) -> dict[str, Any]:
    """Seconds by part, judge calls, and what training saw: groups with spread, reward before and after, staleness."""
    if not records:
        return {"updates": 0}
    parts = {name: sum(r.get(name, 0.0) for r in records) for name in records[0] if name.startswith("seconds_")}
    calls = {name: getattr(score, name) for name in ("asked", "distinct", "judged") if hasattr(score, name)}
    seen = {
        f"{name}_{end}": round(float(np.mean([r[name] for r in part])), 4)
        for name in ("reward", "share_kept", "kl", "entropy", "gradient_norm", "matrix_age", "known_in_candidates")
        for end, part in (("first", records[:20]), ("last", records[-20:]))
        if name in records[0]
    }
    spent = {"updates": len(records), "seconds": round(seconds, 1), **{k: round(v, 2) for k, v in parts.items()}}
    return {**spent, **calls, **seen}


def contrastive(job: Job, s: Settings, g: Ground) -> tuple[Path, dict[str, Any]]:
    """From the start on with InfoNCE: on clicks, or on every truly good item (what the encoder could learn)."""
    pairs, known = positive_pairs(data_of(s.shop_items, s.shop_queries), "clicks")
    ids = g.shop.catalog.ids
    if s.method == "positives":
        good = [np.flatnonzero(g.shop.labels[row] >= 2).tolist() for row in g.rows.tolist()]
        known = {e.text: {ids[item] for item in items} for e, items in zip(g.examples, good, strict=True)}
        pairs = [retriever_contrastive.Pair(text, item) for text, items in known.items() for item in sorted(items)]
    settings = retriever_contrastive.Settings(
        encoder=str(start(s, job.seed)), batch_size=96, learning_rate=s.learning_rate,
        fit=FitSettings(updates=s.continued_updates, seed=job.seed + 1000),  # other batches than the start had
    )  # fmt: skip
    began, items = time.perf_counter(), dict(zip(ids, g.texts, strict=True))
    folder = retriever_contrastive.train(settings, pairs, items, QUEUE.work_folder(job), positives=known)
    return folder, {"updates": s.continued_updates, "seconds": round(time.perf_counter() - began, 1)}


def measured(s: Settings, g: Ground, ranked: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> value (Q,) of every measured query, NaN = unknown."""
    words = lexical(s.shop_items, s.shop_queries, s.split)
    return retrieval_arms.ranking_measures(g, s.split, ranked, words)


def measure(job: Job) -> dict[str, Any]:
    """Train and measure an arm. by_query: values in the order of measured_queries, "nan" = unknown."""
    s = job.settings
    assert isinstance(s, Settings)
    g, spent, chosen = ground(s), {}, measured_queries(ground(s), s.split)
    if s.method == "random":
        rng = np.random.default_rng(job.seed)
        ranked = np.stack([rng.permutation(s.shop_items)[: max(DEPTHS)] for _ in chosen])
    elif s.method == "lexical":
        ranked = lexical(s.shop_items, s.shop_queries, s.split)
    else:
        folder, spent = trained(job, s, g)
        ranked = ranked_by(g, folder, s.split)
    by_query = measured(s, g, ranked)
    means = {name: float(np.nanmean(values)) for name, values in by_query.items()}
    lines = {name: " ".join(f"{value:.4f}" for value in values) for name, values in by_query.items()}
    tail = "".join(str(int(g.shop.queries[q].tail)) for q in chosen)
    return {"means": means, "cost": spent, "tail": tail, "by_query": lines}


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)


@app.command()
def judges() -> None:
    """How right the judge and the weak judge are on dev pairs."""
    s = Settings()
    for updates in (s.judge_updates, s.weak_judge_updates):
        quality = retrieval_arms.judge_quality(ground(s), judge(s, updates))
        print(updates, "updates:", {name: round(value, 3) for name, value in quality.items()})


@app.command()
def training() -> None:
    """Measure the encoders of seed 0 that are still in runs/ on training queries, into their results."""
    torch.set_num_threads(1)
    for result in QUEUE.results():
        s = Settings.model_validate(result["settings"])
        job = Job(result["arm"], result["seed"], s)
        folder = start(s, 0) if s.method == "sft" else QUEUE.work_folder(job) / "encoder"
        if (s.split, job.seed) == ("test", 0) and folder.is_dir() and "training" not in result:
            on = s.model_copy(update={"split": "train"})
            values = measured(on, ground(s), ranked_by(ground(s), folder, "train"))
            result["training"] = {name: round(float(np.nanmean(value)), 4) for name, value in values.items()}
            write_atomic(QUEUE.path(job), json.dumps(result, indent=1) + "\n")


def grouped() -> ByArm:
    """Results on the test queries by arm, in the arms' order."""
    groups = {arm: [r for r in results if r["settings"]["split"] == "test"] for arm, results in QUEUE.by_arm().items()}
    return {arm: groups[arm] for arm in ARMS if groups.get(arm)}


ABLATIONS = {a for a in ARMS if a.startswith(("truth_", "fused", "ungated", "separate"))}
ABLATIONS -= {"truth_positives", "truth_rl_only"}
RIVALS = ("listwise", "ranknet", "dpo", "lambda", "expected", "grpo_K=32", "listwise_K=32", "weak_judge", "continued",
          "restarted")  # fmt: skip


def screened() -> list[list[str]]:
    """What was tried on the dev queries: the settings that differ from the defaults, and what came out."""
    names = ["hitrate@50", "hitrate@100", "goodrate@10", "goodrate@100"]
    rows = [["change", *names, "reward first, last 20", "KL"]]
    plain = Settings().model_dump()
    for result in [r for r in QUEUE.results() if r["settings"]["split"] == "dev"]:
        changed = {k: v for k, v in result["settings"].items() if k != "split" and v != plain.get(k)}
        spent = result["cost"]
        ends = f"{spent['reward_first']:.3f}, {spent['reward_last']:.3f}" if "reward_last" in spent else "-"
        values = (f"{result['means'][name]:.3f}" for name in names)
        change = ", ".join(f"{name} {value}" for name, value in changed.items()) or "default"
        rows.append([change, *values, ends, logged([spent], "kl_last")])
    return [rows[0], *sorted(rows[1:], key=lambda row: -float(row[2]))]


def render() -> str:
    """Every table as Markdown."""
    groups = grouped()
    sections = {
        "Relevance, by the shop's truth** (test queries; intervals over queries, 95 %)": relevance_rows(groups),
        "Against GRPO**": versus(groups, "grpo", RIVALS),
        "Ablations against GRPO with the truth as reward**":
            versus(groups, "truth", [arm for arm in groups if arm in ABLATIONS]),
        "Other depths, overlap, quality**": others(groups), "Cost and what training saw**": costs(groups),
        "Training queries beside test queries**": trained_rows(groups),
        "Screening on the dev queries, one seed**": screened(),
    }  # fmt: skip
    return "\n\n".join(part for title, rows in sections.items() for part in (f"**{title}", markdown(rows)))


add_table(app, "retrieval_grpo", render, "Relevance, rivals, ablations, costs. Differences are paired by query.")

if __name__ == "__main__":
    app()
