"""What a click ranker is worth on the embedded shop, whose utility and position bias are known.

python benchmarks/click_ranker.py run --arm naive,position_tower --seed 0,1,2     one JSON per arm and seed
python benchmarks/click_ranker.py speed                                           opening and answering, one CPU
python benchmarks/click_ranker.py table --write                                   benchmarks/results/click_ranker.md

Sessions of the training queries (20 places, the place r looked at with probability r^-0.7) train the ranker; the test
queries, which have no session, are searched by words, judged to depth 50 and ordered. The judge is simulated: its
opinion of a pair is the true label plus normal noise (standard deviation 0.6 labels), read as probabilities; so the
tiers have errors, and they are the same for all arms. "tier + gain" is the order without a ranker, "oracle" that of the
true utility inside the tiers. An arm is a correction of position bias, perhaps with other settings (ARMS).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from goodrate.api.index import Index
from goodrate.catalog.impressions import Impressions
from goodrate.ranking.ranker_features import FeatureSet
from goodrate.recipes.click_features import PairReader
from goodrate.recipes.click_ranker import Settings, Training
from goodrate.relevance.function_judge import FunctionJudge
from goodrate.relevance.judge import CalibratedJudge
from goodrate.retrieval.store import Store
from goodrate.run_folder import RunFolder, code_versions, write_atomic
from goodrate.shop.behaviour import examination
from goodrate.shop.export import session_frame
from goodrate.shop.shop import Shop, ShopSettings, generate
from lib.queue import RESULTS

NAME = "click_ranker"
NOISE, DEPTH = 0.6, 50
ITEMS_ALONE = ["item"]
ARMS: dict[str, dict[str, Any] | None] = {
    "tier + gain": None,
    "oracle": None,
    "naive": {"correction": "naive"},
    "position_tower": {"correction": "position_tower"},
    "examination": {"correction": "examination"},
    "examination, true propensities": {"correction": "examination", "propensities": examination().tolist()},
    "ipw": {"correction": "ipw"},
    "ipw, true propensities": {"correction": "ipw", "propensities": examination().tolist()},
    "naive, ids alone": {"correction": "naive", "items": [], "channels": []},
    "examination, ids alone": {"correction": "examination", "items": [], "channels": []},
    "examination, numbers alone": {"correction": "examination", "sparse": ["query"]},
}
METRICS = {
    "ndcg": "nDCG of utility, Good tier", "goodrate": "Goodrate@10", "clicks": "expected clicks, 10 places",
}  # fmt: skip
app = typer.Typer(add_completion=False, help=__doc__)


def simulated_judge(shop: Shop) -> CalibratedJudge:
    """A judge whose opinion is the true label and noise; the same for the same shop."""
    place = {record["id"]: i for i, record in enumerate(shop.records)}
    query = {one.text: q for q, one in enumerate(shop.queries)}
    levels = np.arange(len(shop.book.scale))

    def probabilities(text: str, items: Any) -> np.ndarray:
        q = query[text]
        rows = np.asarray([place[item["id"]] for item in items])
        noise = np.random.default_rng([shop.settings.seed, 41, q]).normal(0.0, NOISE, len(shop.records))
        opinion = shop.labels[q, rows] + noise[rows]
        weight = np.exp(-((levels - opinion[:, None]) ** 2) / (2 * NOISE**2))
        return weight / weight.sum(axis=1, keepdims=True)

    return CalibratedJudge(FunctionJudge(probabilities, shop.book.scale, "simulated"), name="simulated")


def trained(shop: Shop, index: Path, work: Path, changes: dict[str, Any], seed: int) -> Path:
    """The ranker folder of an arm."""
    judge = simulated_judge(shop)
    settings = Settings(events="sessions", index=str(index), dev_share=0.0, **changes)
    settings.fit.seed = seed
    features = FeatureSet(
        tuple(settings.sparse), tuple(settings.channels), judge.scale.labels, tuple(settings.items)
    )
    reader = PairReader(Store.open(index), features, judge, as_typed=True)
    log = Impressions.of(session_frame(shop).select("query", "item_id", "position", "clicked"))
    training = Training(settings, RunFolder(work / "run"), reader, log, judge, lambda record: None)
    return training.learn().folder


def measured(shop: Shop, index: Index, arm: str) -> dict[str, list[float]]:
    """metric -> a value for each test query; NaN where a Good tier has fewer than two results."""
    positive = shop.book.scale.is_positive
    place = {record["id"]: i for i, record in enumerate(shop.records)}
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for q in shop.queries_of("test").tolist():
        found = list(index.taking_words_as_typed().search(shop.queries[q].text, k=DEPTH, depth=DEPTH))
        rows = np.asarray([place[result.item["id"]] for result in found], dtype=np.int64)
        worth = shop.utility(q)[rows]
        tiers = np.asarray([result.verdict.tier if result.verdict else "" for result in found])
        if arm == "oracle":
            order = np.lexsort((-worth, [{"Good": 0, "Mid": 1, "": 2, "Bad": 3}[tier] for tier in tiers]))
            rows, worth, tiers = rows[order], worth[order], tiers[order]
        good = worth[tiers == "Good"]
        values["ndcg"].append(dcg(good) / dcg(np.sort(good)[::-1]) if len(good) > 1 else np.nan)
        values["goodrate"].append(float(positive[shop.labels[q, rows[:10]]].mean()) if len(rows) else np.nan)
        values["clicks"].append(float((worth[:10] * examination(10)[: len(worth[:10])]).sum()))
    return values


def dcg(worth: np.ndarray) -> float:
    """Discounted sum of utilities in their order."""
    return float((worth / np.log2(np.arange(2, len(worth) + 2))).sum())


@app.callback()
def _root() -> None:
    """Hold the commands."""


@app.command()
def run(
    arm: Annotated[str, typer.Option(help="Of ARMS, comma separated; all without.")] = ";".join(ARMS),
    seed: Annotated[str, typer.Option(help="Of the shop and the training.")] = "0,1,2",
    items: int = 1000,
    queries: int = 400,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Settings of the recipe, as JSON values.")] = None,
    results: Annotated[Path, typer.Option(help="Where the JSON files go.")] = RESULTS / NAME,
) -> None:
    """Train and measure arms, separated by semicolons."""
    more = {name: json.loads(value) for name, _, value in (one.partition("=") for one in set_ or [])}
    for number in (int(one) for one in seed.split(",")):
        shop = generate(ShopSettings(seed=number, items=items, queries=queries))
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            index = Index.create(work / "index", shop.catalog).rerank(simulated_judge(shop), depth=DEPTH)
            for name in arm.split(";"):
                start, changes = time.monotonic(), ARMS[name]
                served = index
                if changes is not None:
                    shutil.rmtree(work / "run", ignore_errors=True)
                    served = index.with_ranker(trained(shop, work / "index", work, {**changes, **more}, number))
                minutes = (time.monotonic() - start) / 60
                values = measured(shop, served, name)
                about = {"arm": name, "seed": number, "items": items, "queries": queries, "settings": changes, **more}
                means = {metric: round(float(np.nanmean(each)), 4) for metric, each in values.items()}
                print(number, name, means, f"{minutes:.2f} min", flush=True)
                kept = {metric: [None if np.isnan(v) else round(v, 6) for v in each] for metric, each in values.items()}
                path = results / f"{name.replace(', ', '-').replace(' ', '_')}-{number}.json"
                told = {**about, "minutes": round(minutes, 2), **code_versions(), "values": kept}
                write_atomic(path, json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    app()
