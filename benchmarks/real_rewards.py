"""A judge of few labels as the reward of a retriever: does MiniLM get better on held-out queries by people's labels?

python benchmarks/real_rewards.py run --arms untrained,listwise,labels          one JSON per (arm, half) and seed
python benchmarks/real_rewards.py run --arms untrained,listwise,labels --set half=1       the other half to learn from
python benchmarks/real_rewards.py table --write                              benchmarks/results/real_rewards.md

GEMMA and MINILM (--set model=..., --set encoder=...) are folders of ../shared/tools/fixtures.py. Queries are dealt by
group into two halves, once. On one, the ensemble of `goodrate fit-judge` is fitted on people's labels, and each of its
pairs is judged by a fit that has not seen its query's group; MiniLM learns from those grades by the recipe
retriever_grpo, and is measured on the other half. What the language model read for real_judges.py is used again.
Candidates: MiniLM's first of the judged items and some others; of these the ones on the query's list have a grade.
Results hold no text of the data.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from goodrate.catalog.splits import query_folds
from goodrate.evaluation.metrics import evaluate_run
from goodrate.evaluation.significance import bootstrap_interval
from goodrate.learning.fit import FitSettings
from goodrate.learning.ranking_source import QueryExample, RankingSettings
from goodrate.learning.ranking_terms import Objective, RankingTermSettings
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_grpo
from goodrate.recipes.encoder_baseline import FIELDS
from goodrate.recipes.retriever_rewards import RetrievalGrades
from goodrate.recipes.score_sum import (
    PROBE,
    LabelledPairs,
    Member,
    ScoreSums,
    probabilities_out_of_fold,
    probe_scores,
)
from goodrate.recipes.untrained_members import COSINE, USUAL
from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.probe_head import gain_targets
from lib.queue import ByArm, Job, Queue, experiment
from lib.tables import add_table, markdown
from real_judges import Judged, cell, features_of, members_of

Source = Literal["none", "judge", "cosine", "shuffled", "labels"]
SOURCES = ("judge", "cosine", "shuffled", "labels")
WHOLE = ("ndcg@10", "recall@100", "judged@10")


class Settings(BaseModel):
    """All that decides the numbers of an arm."""

    model_config = ConfigDict(extra="forbid")
    data: str = "chorus"
    half: int = 0
    model: str = "/tmp/fixtures/gemma"
    encoder: str = "/tmp/fixtures/minilm"
    reward: Source = "judge"
    objective: Objective = "listwise"
    kl: float | None = None
    others: int = 500
    characters: int = 120
    updates: int = 20
    queries: int = 8
    candidates: int = 16
    learning_rate: float = 2e-5


ARMS: dict[str, dict[str, Any]] = {
    "untrained": {"reward": "none"},
    "listwise": {},
    "labels": {"reward": "labels"},
    "cosine": {"reward": "cosine"},
    "shuffled": {"reward": "shuffled"},
    "grpo": {"objective": "grpo"},
}
QUEUE = Queue("real_rewards")
GROUND = ("data", "others", "characters")
BUDGET = (*GROUND, "updates", "queries", "candidates", "learning_rate")


class Ground:
    """A catalogue cut to its judged items and some others, its judged pairs, and which half each query is of."""

    def __init__(self, name: str, others: int) -> None:
        self.judged = Judged.read(name)
        rows = {row["id"]: row for row in self.judged.catalog.to_rows()}
        needed = {pair.item["id"] for pair in self.judged.pairs}
        unjudged = sorted(rows.keys() - needed)
        drawn = np.random.default_rng(0).choice(len(unjudged), min(others, len(unjudged)), replace=False)
        self.ids = sorted(needed | {unjudged[place] for place in drawn.tolist()})
        self.place = {item: place for place, item in enumerate(self.ids)}
        self.rows = [rows[item] for item in self.ids]
        self.half_of = query_folds([pair.query for pair in self.judged.pairs], 2, seed=0)

    def texts(self, characters: int) -> list[str]:
        """Title and description of each item, cut."""
        return [text[:characters] for text in field_texts(self.rows, FIELDS)]

    def queries(self, half: int) -> list[str]:
        """The queries of a half, in order of the alphabet."""
        return sorted(query for query, own in self.half_of.items() if own == half)

    def pairs(self, half: int) -> list[JudgedPair]:
        """The judged pairs of a half."""
        return [pair for pair in self.judged.pairs if self.half_of[pair.query] == half]


@lru_cache(maxsize=1)
def ground(name: str, others: int) -> Ground:
    """Read once."""
    return Ground(name, others)


def rewards_of(s: Settings) -> dict[str, np.ndarray]:
    """Each source's grade (N,) in 0..1 of the judged pairs of the half, and how each orders them; kept."""
    name = f"{s.data}-{s.half}"
    with QUEUE.locked(f"{name}-rewards", wait=True):
        path = QUEUE.work / f"{name}-rewards.npz"
        if not path.is_file():
            np.savez(path, **_rewards(s))
        return dict(np.load(path))


def _rewards(s: Settings) -> dict[str, np.ndarray]:
    """Out of fold by query group within the half: no grade but that of `labels` has seen its query's labels."""
    judged = ground(s.data, s.others).judged
    inside = np.asarray([ground(s.data, s.others).half_of[pair.query] == s.half for pair in judged.pairs])
    data = LabelledPairs([pair for pair, own in zip(judged.pairs, inside, strict=True) if own], judged.scale)
    features = features_of(judged, Path(s.model))[inside]
    members = {
        name: Member(one.scores[inside], one.mean, one.spread, one.usual)
        for name, one in members_of(judged, [Path(s.encoder)]).items()
    }
    members[PROBE] = Member.of(probe_scores(features, data), USUAL[PROBE])
    sums = ScoreSums(data, members)
    scores = {"judge": sums.out_of_fold(), "cosine": sums.total({COSINE: 1.0})}
    worth = judged.scale.gain_array / judged.scale.gain_array[-1]
    grades = {name: probabilities_out_of_fold(one, data) @ worth for name, one in scores.items()}
    grades["labels"] = gain_targets(data.labels, data.scale)
    grades["shuffled"] = shuffled(grades["judge"], data.query_number)
    ordered = {f"{name} orders": data.ndcg(one) for name, one in {**grades, **scores}.items() if name != "labels"}
    return {**grades, **ordered}


def shuffled(grades: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The grades (N,) dealt anew within each query."""
    rng, dealt = np.random.default_rng(0), grades.copy()
    for number in np.unique(query):
        own = np.flatnonzero(query == number)
        dealt[own] = grades[rng.permutation(own)]
    return dealt


def measure(job: Job) -> dict[str, Any]:
    """Train where there is a reward; measure both halves by people's labels."""
    s = job.settings
    assert isinstance(s, Settings)
    here, told = ground(s.data, s.others), {}
    folder = Path(s.encoder)
    if s.reward != "none":
        rewards = rewards_of(s)
        told = {f"{name} orders": float(np.nanmean(rewards[f"{name} orders"])) for name in ("judge", "cosine")}
        log: list[dict[str, Any]] = []
        folder = trained(s, job.seed, here, rewards[s.reward], log)
        told |= {"loss": [record["loss"] for record in log], "graded": 1 - float(np.mean([r["unscored"] for r in log]))}
    encoder = Encoder.load(folder, precision="auto")
    texts = here.texts(s.characters)
    vectors = encoder.encode_items(texts)
    parts = {"learned from": s.half, "held out": 1 - s.half}
    return told | {
        "items": len(texts),
        **{name: by_labels(here, half, encoder, vectors) for name, half in parts.items()},
    }


def trained(s: Settings, seed: int, here: Ground, grades: np.ndarray, log: list[dict[str, Any]]) -> Path:
    """The encoder after its updates. grades: (N,) of the half's pairs."""
    queries = here.queries(s.half)
    number = {query: row for row, query in enumerate(queries)}
    table = np.full((len(queries), len(here.ids)), np.nan, dtype=np.float32)
    for pair, grade in zip(here.pairs(s.half), grades.tolist(), strict=True):
        table[number[pair.query], here.place[pair.item["id"]]] = grade
    settings = retriever_grpo.Settings(
        encoder=s.encoder, fields=list(FIELDS), learning_rate=s.learning_rate,
        rankings=RankingSettings(queries=s.queries, candidates=s.candidates, pool="start", random_items=0),
        loss=RankingTermSettings(objective=s.objective, kl=s.kl, anchor=0.0),
        fit=FitSettings(updates=s.updates, seed=seed, log_every=1),
    )  # fmt: skip
    examples = [QueryExample(query, 0, frozenset()) for query in queries]  # without an anchor no item need be known
    grade = RetrievalGrades(lambda rows, items: table[rows, items])
    out = QUEUE.work_folder(Job(f"{s.data}-{s.half}-{s.reward}-{s.objective}", seed, s))
    return retriever_grpo.train(settings, examples, here.texts(s.characters), grade, out, log.append)


def by_labels(here: Ground, half: int, encoder: Encoder, vectors: np.ndarray) -> dict[str, list[float | None]]:
    """Metric -> a value per query of the half; None where it is undefined."""
    queries = here.queries(half)
    cosines = encoder.encode_queries(queries) @ vectors.T
    name = {query: f"{row:04d}" for row, query in enumerate(queries)}
    qrels: dict[str, dict[str, int]] = {one: {} for one in name.values()}
    for pair in here.pairs(half):
        qrels[name[pair.query]][pair.item["id"]] = pair.label
    lists = {
        one: [(item, float(cosines[row, here.place[item]])) for item in qrels[one]]
        for row, one in enumerate(name.values())
    }
    first = np.argsort(-cosines, axis=1, kind="stable")[:, :100]
    whole = {
        one: [(here.ids[place], float(cosines[row, place])) for place in first[row].tolist()]
        for row, one in enumerate(name.values())
    }
    scale = here.judged.scale
    on_lists = values_of(evaluate_run(lists, qrels, scale, ["ndcg@10"]), ["ndcg@10"])["ndcg@10"]
    differ = [len(set(items.values())) > 1 for items in qrels.values()]
    judged = [value if own else None for value, own in zip(on_lists, differ, strict=True)]
    return {"judged list": judged, **values_of(evaluate_run(whole, qrels, scale, list(WHOLE)), WHOLE)}


def values_of(table: Any, metrics: Any) -> dict[str, list[float | None]]:
    """Per query in order of their names; None for unknown."""
    rows = table.sort("query_id") if "query_id" in table.columns else table
    return {m: [None if v is None or v != v else float(v) for v in rows[m].cast(float).to_list()] for m in metrics}


def render() -> str:
    """A table per budget: what was measured, each query by the encoder that did not learn from its half."""
    tables: dict[str, ByArm] = {}
    for one in (one for one in QUEUE.results() if one["arm"] != "untrained"):
        tables.setdefault(budget(one, BUDGET), {}).setdefault(one["arm"], []).append(one)
    parts = []
    for found in tables.values():
        (ground_key,) = {budget(one, GROUND) for results in found.values() for one in results}
        start = [one for one in QUEUE.results() if one["arm"] == "untrained" and budget(one, GROUND) == ground_key]
        parts.append(_table({"untrained": start, **found}))
    return "\n\n".join(parts)


def budget(result: dict[str, Any], names: tuple[str, ...]) -> str:
    """These settings of a result, as text."""
    return ", ".join(f"{name} {result['settings'][name]}" for name in names)


def held_out(results: list[dict[str, Any]], part: str, metric: str) -> dict[tuple[int, int], float]:
    """(half, query) -> mean over seeds of a metric."""
    values: dict[tuple[int, int], list[float]] = {}
    for one in results:
        for row, value in enumerate(one[part][metric]):
            values.setdefault((one["settings"]["half"], row), []).append(np.nan if value is None else value)
    return {key: float(np.mean(each)) for key, each in values.items()}


def _table(found: ByArm) -> str:
    metrics = ["judged list", *WHOLE]
    head = ["arm", "learned from half", "seeds", "judged-list nDCG@10", *WHOLE, "judged-list nDCG@10 minus untrained",
            "ndcg@10 minus untrained", "recall@100 minus untrained", "minus untrained, lists learned from",
            "minutes"]  # fmt: skip
    rows = [head]
    for arm in (arm for arm in ARMS if arm in found):
        results = found[arm]
        halves = sorted({one["settings"]["half"] for one in results})
        values = {m: list(held_out(results, "held out", m).values()) for m in metrics}
        means = [f"{np.nanmean(values[m]):.3f} ({np.isfinite(values[m]).sum()})" for m in metrics]
        differences = [difference(results, found["untrained"], "held out", m) for m in metrics[:3]]
        learned = difference(results, found["untrained"], "learned from", "judged list")
        minutes = f"{np.mean([one['minutes'] for one in results]):.1f}"
        seeds = len({one["seed"] for one in results})
        rows.append([arm, " and ".join(map(str, halves)), str(seeds), *means, *differences, learned, minutes])
    trained = [one for arm, results in found.items() if arm != "untrained" for one in results]
    orders = {one["settings"]["half"]: (one["judge orders"], one["cosine orders"]) for one in trained}
    told = "; ".join(f"half {half}: judge {a:.3f}, cosine {b:.3f}" for half, (a, b) in sorted(orders.items()))
    graded = np.mean([one["graded"] for one in trained])
    text = (f"{trained[0]['items']:,} items; {graded:.2f} of the candidates have a grade. nDCG@10 of the grades on the "
            f"lists to learn from, out of fold: {told}. In brackets after a mean: queries.")  # fmt: skip
    return f"### {budget(trained[0], BUDGET)}\n\n{text}\n\n{markdown(rows)}"


def difference(results: list[dict[str, Any]], start: list[dict[str, Any]], part: str, metric: str) -> str:
    """Paired over the queries that both have, with a 95 % interval."""
    ours, theirs = held_out(results, part, metric), held_out(start, part, metric)
    shared = [ours[key] - theirs[key] for key in ours if key in theirs]
    return cell(bootstrap_interval(shared).as_dict(), "+.3f")


app = experiment(__doc__, QUEUE, Settings, ARMS, measure)
add_table(app, "real_rewards", render, "The tables of all results.")

if __name__ == "__main__":
    app()
