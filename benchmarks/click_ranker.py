"""What a click ranker is worth on the embedded shop, whose utility and position bias are known.

python benchmarks/click_ranker.py run --arm "naive;position_tower" --seed 0,1,2   one JSON per arm, appeal and seed
python benchmarks/click_ranker.py speed                                           opening and answering, one CPU
python benchmarks/click_ranker.py table                                           benchmarks/results/click_ranker.md

Sessions of the training queries (20 places, the place r looked at with probability r^-0.7) train the ranker; the test
queries, which have no session, are searched by words, judged to depth 50 and ordered. The judge is simulated: its
opinion of a pair is the true label plus normal noise (standard deviation 0.6 labels), read as probabilities; so the
tiers have errors, and they are the same for all arms. "tier + gain" is the order without a ranker, "oracle" that of the
true utility inside the tiers. "told" orders by the utility that probabilities, quality and price tell, with the weights
of the simulator: the most that numbers can give. An arm is a correction of position bias, perhaps with other features.
nDCG, Good tier: of the true utility, over the results that the judge calls Good. clicks a page: expected, 10 places.
appeal: spread of what makes an item liked and stands nowhere in the catalogue (docs/shop.md); 0 = nothing does. The
rates were chosen with the correction "examination" on seeds 100 and 101, which are not among those reported.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from goodrate.api.index import Index
from goodrate.catalog.impressions import Impressions
from goodrate.evaluation.significance import bootstrap_interval
from goodrate.ranking.feature_ids import text_ids
from goodrate.ranking.ranker import Ranker, RankerCard, write_ranker
from goodrate.ranking.ranker_features import SPARSE, FeatureSet
from goodrate.ranking.results import TIER_ORDER
from goodrate.recipes.click_features import LogFeatures, PairReader
from goodrate.recipes.click_ranker import Settings, Training
from goodrate.relevance.function_judge import FunctionJudge
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.verdicts import Verdict
from goodrate.retrieval.fusion import ChannelPart, FusedHit
from goodrate.retrieval.store import Store
from goodrate.run_folder import RunFolder, code_versions, write_atomic
from goodrate.shop.behaviour import ATTRACTION, examination
from goodrate.shop.export import session_frame
from goodrate.shop.shop import Shop, ShopSettings, generate
from lib.forest import Row, draw_forest
from lib.queue import RESULTS, ROOT
from lib.tables import markdown, shown

NAME, CONTROL = "click_ranker", "tier + gain"
PICTURES = ROOT / "docs" / "pictures"
NOISE, DEPTH = 0.6, 50
ARMS: dict[str, dict[str, Any] | None] = {
    "tier + gain": None,
    "told": None,
    "oracle": None,
    "naive": {"correction": "naive"},
    "position_tower": {"correction": "position_tower"},
    "examination": {"correction": "examination"},
    "examination, true propensities": {"correction": "examination", "propensities": examination().tolist()},
    "ipw": {"correction": "ipw"},
    "ipw, true propensities": {"correction": "ipw", "propensities": examination().tolist()},
    "examination, numbers alone": {"correction": "examination", "sparse": ["query"]},
    "naive, numbers alone": {"correction": "naive", "sparse": ["query"]},
}
UNBIASED = ("position_tower", "examination", "ipw")
METRICS = {
    "ndcg": "nDCG, Good tier", "goodrate": "Goodrate@10", "clicks": "clicks a page",
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


class Given:
    """Stands for a PairReader whose features have been read."""

    def __init__(self, read: LogFeatures) -> None:
        self._read = read

    def read(self, log: Impressions, progress: Any = None) -> LogFeatures:
        return self._read


def trained(read: LogFeatures, out: Path, judge: CalibratedJudge, changes: dict[str, Any], seed: int) -> Path:
    """The ranker folder of an arm, all of whose features were read."""
    settings = Settings(events="sessions", index="index", dev_share=0.0, **changes)
    settings.fit.seed = seed
    features = FeatureSet(tuple(settings.sparse), tuple(settings.channels), judge.scale.labels, tuple(settings.items))
    given = Given(chosen(read, features))
    training = Training(settings, RunFolder(out), given, read.log, judge, lambda record: None)  # type: ignore[arg-type]
    return training.learn().folder


def chosen(read: LogFeatures, features: FeatureSet) -> LogFeatures:
    """Some of the features that were read."""
    columns = [read.features.of_pairs.index(name) for name in features.of_pairs]
    kept = [read.features.items.index(name) for name in features.items]
    catalog = replace(read.catalog, dense=read.catalog.dense[:, kept])
    return replace(
        read, features=features, catalog=catalog, pairs=replace(read.pairs, rows=read.pairs.rows[:, columns])
    )


def measured(shop: Shop, index: Index, arm: str) -> dict[str, list[float]]:
    """metric -> a value for each test query; NaN where a Good tier has fewer than two results."""
    positive = shop.book.scale.is_positive
    place = {record["id"]: i for i, record in enumerate(shop.records)}
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for q in shop.queries_of("test").tolist():
        found = list(index.search(shop.queries[q].text, k=DEPTH, depth=DEPTH))
        rows = np.asarray([place[result.item["id"]] for result in found], dtype=np.int64)
        worth = shop.utility(q)[rows]
        tier = np.asarray([TIER_ORDER[result.verdict.tier] for result in found if result.verdict])
        if arm in ("told", "oracle") and len(rows):
            order = np.lexsort((-(worth if arm == "oracle" else told(shop, found, rows)), -tier))
            rows, worth, tier = rows[order], worth[order], tier[order]
        good = worth[tier == TIER_ORDER["Good"]]
        values["ndcg"].append(dcg(good) / dcg(np.sort(good)[::-1]) if len(good) > 1 else np.nan)
        values["goodrate"].append(float(positive[shop.labels[q, rows[:10]]].mean()) if len(rows) else np.nan)
        values["clicks"].append(float((worth[:10] * examination(10)[: len(worth[:10])]).sum()))
    return values


def told(shop: Shop, found: list[Any], rows: np.ndarray) -> np.ndarray:
    """The utility (N,) of results that the judge's probabilities, quality and price tell."""
    world = shop.world
    price = (world.price - world.price.min()) / np.ptp(world.price)
    attraction = np.asarray([result.verdict.probabilities for result in found]) @ ATTRACTION
    return np.asarray(attraction * (0.6 + 0.4 * world.quality[rows]) * (1.0 - 0.2 * price[rows]))


def dcg(worth: np.ndarray) -> float:
    """Discounted sum of utilities in their order."""
    return float((worth / np.log2(np.arange(2, len(worth) + 2))).sum())


@app.callback()
def _root() -> None:
    """Hold the commands."""


@app.command()
def run(
    arm: Annotated[str, typer.Option(help="Of ARMS, separated by semicolons; all without.")] = ";".join(ARMS),
    seed: Annotated[str, typer.Option(help="Of the shop and the training.")] = "0,1,2",
    appeal: Annotated[str, typer.Option(help="Of the shop's items.")] = "0.0,0.5",
    items: int = 1000,
    queries: int = 300,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Settings of the recipe, as JSON values.")] = None,
    results: Annotated[Path, typer.Option(help="Where the JSON files go.")] = RESULTS / NAME,
) -> None:
    """Train and measure arms; a result that is there is not computed again."""
    more = {name: json.loads(value) for name, _, value in (one.partition("=") for one in set_ or [])}
    for liking, number in itertools.product(map(float, appeal.split(",")), map(int, seed.split(","))):
        paths = {name: results / f"{file_name(name)}-{liking:g}-{number}.json" for name in arm.split(";")}
        missing = {name: path for name, path in paths.items() if not path.is_file()}
        if missing:
            shop = generate(ShopSettings(seed=number, items=items, queries=queries, appeal=liking))
            with tempfile.TemporaryDirectory() as folder:
                _run_arms(shop, Path(folder), missing, more)


def file_name(arm: str) -> str:
    """The arm as a part of a file's name."""
    return arm.replace(" + ", "_").replace(", ", "-").replace(" ", "_")


def _run_arms(shop: Shop, work: Path, paths: dict[str, Path], more: dict[str, Any]) -> None:
    """Train and measure arms on one shop."""
    judge = simulated_judge(shop)
    index = Index.create(work / "index", shop.catalog).rerank(judge, depth=DEPTH).taking_words_as_typed()
    log = Impressions.of(session_frame(shop).select("query", "item_id", "position", "clicked"))
    features = FeatureSet(sparse=SPARSE, labels=judge.scale.labels)
    read = PairReader(Store.open(work / "index"), features, judge, as_typed=True).read(log)
    for name, path in paths.items():
        start, changes = time.process_time(), ARMS[name]
        served = index
        if changes is not None:
            shutil.rmtree(work / "run", ignore_errors=True)
            served = index.with_ranker(trained(read, work / "run", judge, {**changes, **more}, shop.settings.seed))
        values = measured(shop, served, name)
        means = {metric: round(float(np.nanmean(each)), 4) for metric, each in values.items()}
        print(shop.settings.seed, shop.settings.appeal, name, means, flush=True)
        kept = {metric: [None if np.isnan(v) else round(v, 6) for v in each] for metric, each in values.items()}
        about = {"arm": name, "shop": shop.settings.model_dump(mode="json"), "settings": {**(changes or {}), **more}}
        seconds = round(time.process_time() - start, 1)
        told_ = {**about, "impressions": len(log), "clicks": int(log.clicked.sum()), "cpu_seconds": seconds}
        write_atomic(path, json.dumps({**told_, **code_versions(), "values": kept}, indent=1) + "\n")


@app.command()
def speed(
    items: int = 1_000_000,
    answers: int = 300,
    results: Annotated[Path, typer.Option(help="The JSON file.")] = RESULTS / NAME / "speed.json",
) -> None:
    """How long a ranker takes to open, and to answer 50 items of one query, with as many rows of each crossing."""
    features = FeatureSet(sparse=SPARSE, labels=("irrelevant", "mismatch", "related", "excellent"))
    rng, dim, hidden = np.random.default_rng(0), 8, 32
    names = [f"item {n}" for n in range(items)]
    ids = {"item": text_ids(names), "brand": text_ids(names[:5_000]), "category": text_ids(names[:500])}
    ids |= {"query": text_ids(names[: items // 10])}
    ids |= {name: rng.integers(-(2**62), 2**62, items) for name in ("query_brand", "query_category")}
    rows = {name: (own, rng.normal(size=(len(own), 1 + dim)).astype(np.float32)) for name, own in ids.items()}
    inputs = 2 * len(features.dense)
    shapes = {"linear.weight": (1, inputs), "linear.bias": (1,), "deep.1.bias": (hidden,), "deep.4.bias": (1,)}
    shapes |= {"deep.1.weight": (hidden, 6 * dim + inputs), "deep.4.weight": (1, hidden)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    card = RankerCard(features, (0.0,) * len(features.dense), (1.0,) * len(features.dense), dim, (hidden,))
    with tempfile.TemporaryDirectory() as folder:
        ranker = write_ranker(Path(folder) / "ranker", card, weights, {name: rows[name] for name in SPARSE})
        size = sum(path.stat().st_size for path in ranker.rglob("*") if path.is_file())
        opening, opened = timed(lambda: Ranker.open(ranker), 20)
        batches = [[item_row(int(n)) for n in rng.integers(0, items, 50)] for _ in range(answers)]
        hits, verdicts = [hit(place) for place in range(50)], [VERDICT] * 50
        each = [timed(lambda b=b: opened.utilities("item 7", b, hits, verdicts), 1)[0][0] for b in batches]
    about = {"items": items, "rows": sum(map(len, ids.values())), "megabytes": round(size / 1e6, 1), "threads": 1}
    told_ = {**about, "answers": answers, "open_ms": quantiles(opening), "answer_50_ms": quantiles(each)}
    print(told_)
    write_atomic(results, json.dumps({**told_, **code_versions()}, indent=1) + "\n")


VERDICT = Verdict("excellent", (0.05, 0.1, 0.25, 0.6), 0.7, "Good")


def item_row(number: int) -> dict[str, Any]:
    """A catalogue row."""
    own = {"id": f"item {number}", "brand": f"item {number % 5000}", "category": f"item {number % 500}"}
    return {**own, "price": 10.0 + number % 90, "rating": 1.0 + number % 5, "attributes": "{}"}


def hit(place: int) -> FusedHit:
    """What a search found at a place."""
    parts = {name: ChannelPart(place + 1, 9.0 - place / 10, 0.5) for name in ("lexical", "dense")}
    return FusedHit(f"item {place}", 1.0, place + 1, parts)


def timed(call: Any, times: int) -> tuple[list[float], Any]:
    """CPU milliseconds of each call, and what the last one gave."""
    took, last = [], None
    for _ in range(times):
        start = time.process_time()
        last = call()
        took.append(1000 * (time.process_time() - start))
    return took, last


def quantiles(values: list[float]) -> dict[str, float]:
    """p50 and p95."""
    return {"p50": round(float(np.quantile(values, 0.5)), 2), "p95": round(float(np.quantile(values, 0.95)), 2)}


@app.command()
def table(
    results: Path = RESULTS / NAME, out: Path = RESULTS / f"{NAME}.md", picture: Path = PICTURES / f"{NAME}.png"
) -> None:
    """Write the page of all results, and the picture of the differences from "tier + gain"."""
    held = [json.loads(path.read_text()) for path in sorted(results.glob("*-*.json"))]
    parts = [f"# Click ranker on the embedded shop\n\n```\n{__doc__.strip()}\n```\n"]
    rows: list[Row] = []
    for appeal in sorted({one["shop"]["appeal"] for one in held}):
        own = [one for one in held if one["shop"]["appeal"] == appeal]
        compared = differences(own, f"appeal {appeal:g}")
        parts.append(f"## appeal {appeal:g}\n\n{appeal_table(own, compared)}\n")
        rows += [row for row in compared if row.method not in ("told", "oracle")]
    path = results / "speed.json"
    if path.is_file():
        parts.append(f"## Speed\n\n{speed_text(json.loads(path.read_text()))}\n")
    write_atomic(out, "\n".join(parts))
    draw_forest(rows, picture, {METRICS["ndcg"]: (-0.06, 0.06), METRICS["clicks"]: (-0.15, 0.15)})
    print(out)


def appeal_table(held: list[dict[str, Any]], compared: list[Row]) -> str:
    """One row an arm: means over the queries of all seeds, and the differences."""
    names = ("ndcg", "clicks")
    rows = [["arm", "seeds", *METRICS.values(), *(f"{METRICS[name]}, minus {CONTROL}" for name in names)]]
    minus = {row.method: [shown(row.differences[METRICS[name]], "+.3f") for name in names] for row in compared}
    for arm in ARMS:
        own = [one for one in held if one["arm"] == arm]
        if own:
            values = stacked(own)
            means = [f"{np.nanmean(values[metric]):.3f}" for metric in METRICS]
            rows.append([arm, str(len(own)), *means, *minus.get(arm, ["", ""])])
    first = next(one for one in held if one["shop"]["seed"] == 0)
    said = f"{first['impressions']:,} impressions, {first['clicks']:,} clicks (seed 0).\n\n{markdown(rows)}"
    against = [row for row in differences(held, "", control="naive") if row.method in UNBIASED]
    minus_naive = [["arm", *(f"{METRICS[name]}, minus naive" for name in names)]]
    minus_naive += [[row.method, *(shown(row.differences[METRICS[n]], "+.3f") for n in names)] for row in against]
    return f"{said}\n\n{markdown(minus_naive)}"


def differences(held: list[dict[str, Any]], group: str, control: str = CONTROL) -> list[Row]:
    """Each arm minus another on the queries of the seeds that both have, with 95 % intervals over queries."""
    rows = []
    for arm in ARMS:
        own = [one for one in held if one["arm"] == arm]
        seeds = {one["shop"]["seed"] for one in own}
        if own and arm != control:
            base = stacked([one for one in held if one["arm"] == control and one["shop"]["seed"] in seeds])
            values = stacked(own)
            each = {METRICS[m]: bootstrap_interval(values[m] - base[m]) for m in ("ndcg", "clicks")}
            rows.append(Row(group, arm, control, len(seeds), each))
    return rows


def stacked(results: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """metric -> values of the queries of all seeds, in order of the seeds."""
    ordered = sorted(results, key=lambda one: one["shop"]["seed"])
    return {m: np.concatenate([np.asarray(one["values"][m], dtype=float) for one in ordered]) for m in METRICS}


def speed_text(told_: dict[str, Any]) -> str:
    """The numbers of `speed` as a sentence."""
    opening, answer = told_["open_ms"], told_["answer_50_ms"]
    return (
        f"A ranker of {told_['rows']:,} rows ({told_['megabytes']:,} MB), one thread, CPU time: opened in "
        f"{opening['p50']} ms (p50; p95 {opening['p95']}), "
        f"50 items of a query in {answer['p50']} ms (p95 {answer['p95']})."
    )


if __name__ == "__main__":
    app()
