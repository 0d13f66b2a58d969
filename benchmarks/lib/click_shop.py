"""Hybrid search in the embedded shop, day by day, weighed by what shoppers click: a channel breaks, tastes drift.

What channels say of items comes from a real index of the shop; shoppers are those of shop.behaviour, whose taste for
price and quality changes by day. Every arm shows its own ranking and learns from its own clicks; all see the same
queries and the same shoppers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import goodrate as gr
from goodrate.ranking.online.click_loss import ClickLoss
from goodrate.ranking.online.meta import AdaptiveRegret, DynamicRegret
from goodrate.ranking.online.peers import ProjectedDescent
from goodrate.ranking.online.sets import Near, Simplex, TraceNormBall
from goodrate.retrieval.fusion import Hit
from goodrate.retrieval.hybrid import channel_features, fused
from goodrate.retrieval.search_settings import SearchSettings
from goodrate.retrieval.weighing import WEIGHED, start_of
from goodrate.shop.behaviour import ATTRACTION, PAGE, POSITION_EXPONENT
from goodrate.shop.shop import Shop, ShopSettings, generate
from lib.queue import WORK

ITEMS, QUERIES = 1500, 300
DAYS, ROUNDS, SESSIONS = 60, 24, 10  # rounds of a day, sessions of a round
BREAK, REPAIR, WEEK, TUNED = 20, 45, 7, 7
NEW_BRANDS, LIKED = 8, 2.0  # brands that come on day BREAK, and how much more they are liked
MOVED = 0.8  # share of the weight that may move from the start
STEEP, STEEP_ROW = 0.6, 0.1  # gradients of a round are shortened to this; 19 of 20 are shorter
STATES = ("working", "meaning broken", "words broken", "brand")
SIDE, FACTS = ("features", "there", "fixed", "ranks"), ("item", "label", "quality", "price", "new", "category")
RANKED = SearchSettings(fusion="ranks", dense_weight=1.0)
START = start_of(WEIGHED)
FEASIBLE = Near(Simplex(len(WEIGHED)), START, MOVED)
LOSS = ClickLoss(POSITION_EXPONENT, 10.0, 10.0)
BLIND = ClickLoss(0.0, 1.0, 10.0)  # believes that every position is looked at


@dataclass(frozen=True)
class Side:
    """One state of the channels. features (Q, M, C), there (Q, M): found; fixed, ranks (Q, PAGE): what today's rule and
    reciprocal ranks show, positions among the M, -1 behind the last.
    """

    features: np.ndarray
    there: np.ndarray
    fixed: np.ndarray
    ranks: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """item (Q, M) positions in the shop, -1 for none; label, quality, price (Q, M); new: of a new brand."""

    item: np.ndarray
    label: np.ndarray
    quality: np.ndarray
    price: np.ndarray
    new: np.ndarray
    category: np.ndarray
    sides: Mapping[str, Side]


@dataclass(frozen=True)
class Scenario:
    """What happens. marks: days at which it does."""

    name: str
    marks: tuple[int, ...] = ()
    brand: bool = False
    seasons: bool = False
    breaks: str = ""

    def side(self, day: int) -> str:
        """Which state the channels are in."""
        if self.brand:
            return "brand"
        return f"{self.breaks} broken" if self.breaks and BREAK <= day < REPAIR else "working"

    def utility(self, shop: Prepared, day: int) -> np.ndarray:
        """(Q, M): the chance of a click once seen; 0 for what is not there yet."""
        swing = np.cos(2 * np.pi * day / 30) if self.seasons else None
        price, quality = (0.2, 0.4) if swing is None else (0.45 - 0.45 * swing, 0.4 + 0.4 * swing)
        liked = ATTRACTION[shop.label] * (1 - quality + quality * shop.quality) * (1 - price * shop.price)
        if self.brand:
            liked = np.where(shop.new, np.minimum(LIKED * liked, 1.0) * (day >= BREAK), liked)
        return np.where(shop.item >= 0, liked, 0.0)


SCENARIOS = (
    Scenario("steady"),
    Scenario("meaning breaks", (BREAK, REPAIR), breaks="meaning"),
    Scenario("words break", (BREAK, REPAIR), breaks="words"),
    Scenario("seasons", seasons=True),
    Scenario("new brand", (BREAK,), brand=True),
)


def prepared(seed: int, encoder: Path) -> Prepared:
    """The shop of a seed with all that its channels say, in each state; kept beside its index."""
    kept = WORK / "online_weights" / f"prepared{seed}-{encoder.name}.npz"
    if kept.is_file():
        with np.load(kept) as held:
            sides = {name: Side(*(held[f"{name}/{part}"] for part in SIDE)) for name in STATES}
            return Prepared(*(held[name] for name in FACTS), sides)
    made = _prepared(seed, encoder)
    parts = {f"{name}/{part}": getattr(side, part) for name, side in made.sides.items() for part in SIDE}
    np.savez_compressed(kept, **parts, **{name: getattr(made, name) for name in FACTS})
    return made


def _prepared(seed: int, encoder: Path) -> Prepared:
    shop = generate(ShopSettings(seed=seed, items=ITEMS, queries=QUERIES, sessions=0))
    index = gr.Index.create(WORK / "online_weights" / f"shop{seed}-{encoder.name}", shop.catalog, encoder)
    draw = np.random.default_rng([seed, 5])
    place = {record["id"]: at for at, record in enumerate(shop.records)}
    new = np.isin(shop.world.brand, draw.choice(np.unique(shop.world.brand), NEW_BRANDS, replace=False))
    rows = [_of_query(index, query.text, list(place), new, place, draw) for query in shop.queries]
    pools = [sorted({item for one in row.values() for item in one[0]}) for row in rows]
    most = max(map(len, pools))
    item = np.full((QUERIES, most), -1)
    for q, pool in enumerate(pools):
        item[q, : len(pool)] = [place[one] for one in pool]
    sides = {name: _side(name, rows, pools, most) for name in STATES}
    return Prepared(*_facts(shop, item, new), sides)


def _facts(shop: Shop, item: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, ...]:
    labels = np.take_along_axis(shop.labels.astype(int), np.maximum(item, 0), axis=1)
    price = (shop.world.price - shop.world.price.min()) / max(1, int(np.ptp(shop.world.price)))
    category = np.array([query.category for query in shop.queries])
    return item, labels, shop.world.quality[item], price[item], new[item] & (item >= 0), category


Row = dict[str, tuple[list[str], np.ndarray, list[str], list[str]]]  # side -> ids, features, fixed, ranks


def _of_query(
    index: gr.Index, text: str, ids: list[str], new: np.ndarray, place: dict[str, int], draw: np.random.Generator
) -> Row:
    searcher = index.searcher
    read = searcher.read(text)
    found = searcher.found(read.text, 100, searcher.condition(read), "hybrid")
    states = {"working": found, "brand": found}
    for name, channel in (("meaning broken", "dense"), ("words broken", "lexical")):
        noise = draw.choice(len(ids), len(found[channel]), replace=False)
        hits = [Hit(ids[at], hit.score, hit.rank) for at, hit in zip(noise, found[channel], strict=True)]
        states[name] = {**found, channel: hits}
    row = {}
    for name, one in states.items():
        further = searcher.with_further(one, WEIGHED)
        if name == "brand":
            further["rating"] = _unrated(further["rating"], new, place)
        features = channel_features(further, searcher.settings, searcher.calibration, WEIGHED)
        shown = [
            [hit.item_id for hit in fused(one, settings, searcher.calibration, PAGE)]
            for settings in (searcher.settings, RANKED)
        ]
        row[name] = (*features, *shown)
    return row


def _unrated(hits: Any, new: np.ndarray, place: dict[str, int]) -> list[Hit]:
    """Nobody has rated what is new: it is in the middle."""
    return [Hit(hit.item_id, 0.5, hit.rank) if new[place[hit.item_id]] else hit for hit in hits]


def _side(name: str, rows: list[Row], pools: list[list[str]], most: int) -> Side:
    features, there = np.zeros((QUERIES, most, len(WEIGHED))), np.zeros((QUERIES, most), dtype=bool)
    orders = np.full((2, QUERIES, PAGE), -1)
    for q, pool in enumerate(pools):
        at = {item: n for n, item in enumerate(pool)}
        ids, values, *shown = rows[q][name]
        where = [at[item] for item in ids]
        features[q, where], there[q, where] = values, True
        for kind, order in enumerate(shown):
            orders[kind, q, : len(order)] = [at[item] for item in order]
    return Side(features, there, *orders)


Seen = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # features, positions, clicked, category of B sessions


@dataclass
class Arm:
    """How channels are weighed. weights: (Q, C) for queries of these categories (Q,). learn: of one round.
    end: of a day, which begins with 0. order: a fixed rule instead.
    """

    weights: Callable[[np.ndarray], np.ndarray] = lambda category: np.tile(START, (len(category), 1))
    learn: Callable[[Seen], None] = lambda seen: None
    end: Callable[[int], None] = lambda day: None
    order: str = ""


def learned(learner: Any, loss: ClickLoss = LOSS) -> Arm:
    """A learner of one vector."""

    def learn(seen: Seen) -> None:
        learner.update(loss.measured(*seen[:3], learner.play)[1].mean(axis=0))

    return Arm(lambda category: np.tile(learner.play, (len(category), 1)), learn)


def learned_matrix(categories: int) -> Arm:
    """The start, and for each category a move away from it; few directions explain all moves."""
    shape = (categories, len(WEIGHED))
    learner = AdaptiveRegret(TraceNormBall(shape, 4.0), STEEP_ROW)

    def weights(category: np.ndarray) -> np.ndarray:
        return np.asarray(START + learner.play.reshape(shape)[category])

    def learn(seen: Seen) -> None:
        gradient = np.zeros(shape)
        np.add.at(gradient, seen[3], loss_gradient(seen, weights(seen[3])) / len(seen[3]))
        learner.update(gradient.ravel())

    return Arm(weights, learn)


def loss_gradient(seen: Seen, weights: np.ndarray) -> np.ndarray:
    """(B, C)."""
    return LOSS.measured(*seen[:3], weights)[1]


@dataclass
class Tuning:
    """Weights that minimise the loss of the days since the last tuning. days: on whose end they are tuned."""

    days: frozenset[int]
    now: np.ndarray = field(default_factory=lambda: START.copy())
    kept: list[Seen] = field(default_factory=list)

    def arm(self) -> Arm:
        """As one."""
        return Arm(
            lambda category: np.tile(self.now, (len(category), 1)), lambda seen: self.kept.append(seen), self.end
        )

    def end(self, day: int) -> None:
        """Of a day."""
        if day + 1 not in self.days:
            return
        seen = tuple(np.concatenate([one[part] for one in self.kept]) for part in range(3))
        descent = ProjectedDescent(FEASIBLE, STEEP, factor=3.0, start=self.now)
        for _ in range(80):
            descent.update(LOSS.measured(seen[0], seen[1], seen[2], descent.play)[1].mean(axis=0))
        self.now, self.kept = descent.play, []


ARMS: Mapping[str, Callable[[int], Arm]] = {
    "as it is": lambda categories: Arm(order="fixed"),
    "reciprocal ranks": lambda categories: Arm(order="ranks"),
    "tuned once": lambda categories: Tuning(frozenset([TUNED])).arm(),
    "tuned weekly": lambda categories: Tuning(frozenset(range(WEEK, DAYS, WEEK))).arm(),
    "projected descent": lambda categories: learned(ProjectedDescent(FEASIBLE, STEEP, DAYS * ROUNDS, start=START)),
    "dynamic": lambda categories: learned(DynamicRegret(FEASIBLE, STEEP, DAYS * ROUNDS, start=START)),
    "adaptive": lambda categories: learned(AdaptiveRegret(FEASIBLE, STEEP, start=START)),
    "adaptive, by category": learned_matrix,
    "adaptive, positions believed": lambda categories: learned(AdaptiveRegret(FEASIBLE, STEEP, start=START), BLIND),
}


def simulated(shop: Prepared, arm: Arm, scenario: Scenario, seed: int) -> dict[str, Any]:
    """nDCG@10 of true utility by day, before that day's learning, and the weights then."""
    popular = 1 / np.arange(1, QUERIES + 1)
    of_query = np.random.default_rng([seed, 7]).permutation(popular / popular.sum())
    days, weights = [], []
    for day in range(DAYS):
        draw = np.random.default_rng([seed, 11, day])
        side, utility = shop.sides[scenario.side(day)], scenario.utility(shop, day)
        every = np.arange(QUERIES)
        days.append(float(ndcg(utility, shown_by(arm, side, shop, every, utility)).mean()))
        weights.append(arm.weights(shop.category).mean(axis=0))
        for _ in range(ROUNDS):
            asked = draw.choice(QUERIES, SESSIONS, p=of_query)
            shown = shown_by(arm, side, shop, asked, utility)
            arm.learn(clicks(side, shop, utility, asked, shown, draw))
        arm.end(day)
    return {"ndcg": np.round(days, 5).tolist(), "weights": np.round(weights, 4).tolist()}


def shown_by(arm: Arm, side: Side, shop: Prepared, asked: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """(B, PAGE) places of the pool; -1 where there is none, or not yet."""
    if arm.order:
        order = getattr(side, arm.order)[asked]
        absent = shop.new[asked[:, None], order] & (utility[asked[:, None], order] == 0)
        return np.where(absent, -1, order)
    scores = (side.features[asked] @ arm.weights(shop.category[asked])[:, :, None])[:, :, 0]
    scores[~side.there[asked] | (shop.new[asked] & (utility[asked] == 0))] = -np.inf
    first = np.sort(np.argpartition(-scores, 2 * PAGE, axis=1)[:, : 2 * PAGE], axis=1)
    best = np.argsort(-np.take_along_axis(scores, first, axis=1), axis=1, kind="stable")[:, :PAGE]
    order = np.take_along_axis(first, best, axis=1)
    return np.where(np.isfinite(np.take_along_axis(scores, order, axis=1)), order, -1)


def clicks(
    side: Side, shop: Prepared, utility: np.ndarray, asked: np.ndarray, shown: np.ndarray, draw: np.random.Generator
) -> Seen:
    """What shoppers do with these pages; as many uniform numbers are drawn whatever is shown."""
    position = np.tile(np.arange(1, PAGE + 1), (len(asked), 1))
    seen = draw.random(shown.shape) < position**-POSITION_EXPONENT
    liked = draw.random(shown.shape) < np.where(shown >= 0, utility[asked[:, None], shown], 0.0)
    return side.features[asked[:, None], shown], position, seen & liked, shop.category[asked]


def ndcg(utility: np.ndarray, shown: np.ndarray, k: int = 10) -> np.ndarray:
    """(Q,) with gains of true utility; the ideal is the best of all that any channel finds in any state."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    gains = np.where(shown[:, :k] >= 0, np.take_along_axis(utility, np.maximum(shown[:, :k], 0), axis=1), 0.0)
    ideal = -np.sort(-utility, axis=1)[:, :k] @ discount
    return np.asarray(np.divide(gains @ discount, ideal, out=np.ones(len(ideal)), where=ideal > 0))


def measured(seed: int, encoder: Path) -> dict[str, Any]:
    """All arms and scenarios with one seed."""
    shop = prepared(seed, encoder)
    categories = int(shop.category.max()) + 1
    return {
        "seed": seed, "encoder": encoder.name, "channels": list(WEIGHED), "settings": {
            "items": ITEMS, "queries": QUERIES, "days": DAYS, "rounds": ROUNDS, "sessions": SESSIONS, "moved": MOVED,
        },
        "scenarios": {
            scenario.name: {name: simulated(shop, made(categories), scenario, seed) for name, made in ARMS.items()}
            for scenario in SCENARIOS
        },
    }  # fmt: skip
